"""What `export-triton` writes: hashed, as Triton reads it, complete or not at all."""

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.packaged.places import IDM_BUNDLE
from tests.deploy.triton import stand_in
from tests.json_schema import checked

RUN = CliRunner()


def export(place: Path, *options: str, bundle: Path = IDM_BUNDLE) -> Any:
    return RUN.invoke(app, ["export-triton", str(bundle), "-o", str(place), *options])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """With the networks by themselves, and what the command says of it."""
    place = tmp_path_factory.mktemp("triton") / "repository"
    options = ("--graphs", "--name", "demo", "--model-version", "3", "--instances", "2", "--max-queue", "7")
    result = export(place, *options, "--queue-seconds", "1.5", "--threads", "1", "--json")
    assert result.exit_code == 0, result.output
    return place, checked("export-triton", result.stdout)


def config_of(repository: Path, model: str) -> Any:
    """A config.pbtxt as Triton's own description of it reads it, which refuses what it does not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from google.protobuf import text_format
        from tritonclient.grpc import model_config_pb2
    text = (repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_every_file_is_hashed_and_the_run_time_needs_no_installation(repository: tuple[Path, dict[str, Any]]) -> None:
    place, report = repository
    assert report["models"][0] == "demo"
    assert {*report["models"]} == {"demo", "demo_encode", "demo_tabulate", "demo_denoise"}
    lines = (place / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    assert sums.keys() == files.keys() - {"SHA256SUMS"} and len(sums) == report["files"]
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert {"README.md", "requirements.txt", "demo/3/bundle/bundle.json", "demo/3/SHA256SUMS"} <= sums.keys()
    assert "onnxruntime==" in files["requirements.txt"].read_text()
    # In a process that sees nothing of this checkout.
    code = "import deploy.triton.instance, sys; print(deploy.__file__); assert 'typer' not in sys.modules"
    runtime = place / "demo" / "3" / "runtime"
    packages = [path for path in sys.path if path.endswith("site-packages")]
    paths = f"import sys; sys.path[:] = [{str(runtime)!r}, *{packages!r}, *sys.path]; "
    found = subprocess.run([sys.executable, "-S", "-c", paths + code], capture_output=True, text=True, cwd="/")
    assert found.stdout.strip() == str(runtime / "deploy" / "__init__.py"), found.stderr


def test_triton_reads_the_configurations(repository: tuple[Path, dict[str, Any]]) -> None:
    import onnxruntime

    place, report = repository
    demo = config_of(place, "demo")
    assert (demo.name, demo.backend, demo.max_batch_size) == ("demo", "python", 8)
    policy = demo.dynamic_batching.default_queue_policy
    assert (policy.max_queue_size, policy.default_timeout_microseconds) == (7, 1_500_000)
    assert [(tensor.name, [*tensor.dims], tensor.optional) for tensor in demo.input] == [
        ("image", [-1, -1, 3], True), ("file", [1], True)
    ]  # fmt: skip
    assert [tensor.name for tensor in demo.output] == ["image", "file"]
    assert (demo.instance_group[0].count, demo.parameters["threads"].string_value) == (2, "1")
    for model in report["models"][1:]:  # against the graph as ONNX Runtime, which runs it there, opens it here
        config = config_of(place, model)
        session = onnxruntime.InferenceSession(place / model / "3" / config.default_model_filename)
        for told, tensors in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            shapes = {tensor.name: [-1 if isinstance(n, str) else n for n in tensor.shape] for tensor in tensors}
            assert {tensor.name: [*tensor.dims] for tensor in told} == shapes
        assert config.backend == "onnxruntime" and config.max_batch_size == 0


def test_gpus_are_named_in_every_configuration(tmp_path: Path) -> None:
    result = export(tmp_path / "r", "--gpus", "0,2", "--graphs", "--name", "on-gpus")
    assert result.exit_code == 0, result.output
    for model in ("on-gpus", "on-gpus_denoise"):
        (group,) = config_of(tmp_path / "r", model).instance_group
        assert (group.kind, [*group.gpus], group.count) == (1, [0, 2], 1)
    needed = (tmp_path / "r" / "requirements.txt").read_text()
    assert "onnxruntime-gpu" in needed or "tensorrt" in needed  # the latter where it is installed here


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--name", "a/b"], "letters, digits and _.- alone"),
        (["--max-batch", "65"], "from 1 to 64, found 65"),
        (["--delay-ms", "60001"], "from 0 to 60000, found 60001"),
        (["--queue-seconds", "0"], "above 0 and at most 86400"),
        (["--gpus", "0,0"], "each once, found 0, 0"),
        (["--gpus", "none"], "numbers of GPUs with commas"),
        (["--gpus", "0", "--engine", "onnxruntime-cpu"], "onnxruntime-cpu runs on the processor"),
        (["--engine", "tensorrt"], "tensorrt runs on GPUs"),
        (["--engine", "openvino-cpu", "--graphs"], "no backend of its own for graphs of openvino-cpu: name the"),
        (["--precision", "int8", "--graphs"], "exported in float, as int8 takes numbers"),
        (["--engine", "tensorrt", "--gpus", "0", "--graphs"], "made for one kind of GPU, and here no NVIDIA driver"),
    ],
)
def test_what_cannot_be_honoured_is_refused_before_anything_is_written(
    tmp_path: Path, options: list[str], sentence: str
) -> None:
    result = export(tmp_path / "r", *options)
    said = " ".join(result.output.replace("│", " ").split()) + str(result.exception)
    assert result.exit_code != 0 and sentence in said, said
    assert not list(tmp_path.iterdir())


def test_places_that_are_taken_and_bundles_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "model").touch()
    (tmp_path / "file").touch()
    for place, sentence in (("full", "the folder is not empty; it holds model"), ("file", "a file of that name")):
        assert sentence in str(export(tmp_path / place).exception)
    assert "does not exist. Make it first" in str(export(tmp_path / "no" / "where").exception)
    assert "bundle" in str(export(tmp_path / "r", bundle=tmp_path / "full").exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_what_a_killed_export_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".r.partial-0123456789ab"
    left.mkdir()
    (left / "half").touch()
    (tmp_path / "r").mkdir()  # empty: it may be there
    assert export(tmp_path / "r").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_the_model_says_why_it_cannot_start(
    repository: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    version = shutil.copytree(repository[0] / "demo" / "3", tmp_path / "3")
    model = runpy.run_path(str(version / "model.py"))
    said = model["problem_of_triton"]
    assert said(stand_in, (3, 12)) is None
    assert "needs Python 3.11 or newer, and this Triton runs Python 3.10" in said(stand_in, (3, 10))
    old = type("Old", (), {"InferenceRequest": type("Request", (), {"parameters": None})})
    assert "have no is_cancelled(), by which" in said(old, (3, 11)) and "2.39 (23.10) or newer" in said(old, (3, 11))
    weights = next((version / "bundle").glob("weights-*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(stand_in.TritonModelException, match=r"weights-.* is not the file that SHA256SUMS lists"):
        model["TritonPythonModel"]().initialize({})
    weights.unlink()
    with pytest.raises(stand_in.TritonModelException, match=r"weights-.* cannot be read .*Copy the repository again"):
        model["TritonPythonModel"]().initialize({})


def test_the_model_answers_by_its_own_run_time(
    repository: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = runpy.run_path(str(repository[0] / "demo" / "3" / "model.py"))["TritonPythonModel"]()
    parameters = {"engine": {"string_value": "onnxruntime-cpu"}, "threads": {"string_value": "1"}}
    config = {"parameters": parameters, "instance_group": [{"count": 2}]}
    kind = {"model_instance_kind": "CPU", "model_instance_device_id": "0"}
    model.initialize({"model_config": json.dumps(config), "model_name": "demo", **kind})
    request = stand_in.InferenceRequest({"image": np.zeros((1, 8, 8, 3), np.uint8)}, {"scale": 2})
    (answer,) = model.execute([request])
    assert answer.tensors[0].as_numpy().shape == (1, 16, 16, 3)
    model.finalize()
