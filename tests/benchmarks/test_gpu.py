"""The GPU benchmark as far as a CPU goes: preparation, parity, timing, table and JSON, on ONNX Runtime's CPU engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from deploy.bundle import Bundle
from engines.backends import BACKENDS
from engines.contract import TensorSpec
from engines.cuda import find_device
from tests.deploy.runtime.conftest import exported, exported_latent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("idm"), {"norm_groups": 8, "image_size": 16})


QUICK = ["--size", "16x16", "--batches", "1,2", "--rounds", "1", "--steps", "2", "--engines", "onnxruntime-cpu"]


def test_everything_but_cuda_runs_on_the_cpu(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu.main([str(bundle.path), *QUICK, "--json", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert [(row["engine"], row["batch"]) for row in report["rows"]] == [("onnxruntime-cpu", 1), ("onnxruntime-cpu", 2)]
    for row in report["rows"]:
        assert row["failure"] is None
        assert row["sqnr_db"] > 100  # the same engine, opened for fixed sizes
        assert row["step_ms"] > 0 and row["images_per_second"] > 0
        assert row["device_ms"] is None
    printed = capsys.readouterr().out
    assert printed.startswith("idm_micro.bundle, 16x16, 2 steps, ")
    assert printed.count("| onnxruntime-cpu fp32 |") == 2


def test_the_latent_family_too(tmp_path: Path) -> None:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    latent = exported_latent("latent_sr_tiny", tmp_path, sizes)
    report = gpu.measure(latent, gpu.Settings(size=(32, 32), batches=(2,), rounds=1, steps=2), ["onnxruntime-cpu"])
    assert report["rows"][0]["failure"] is None
    assert report["rows"][0]["sqnr_db"] > 100


def test_without_a_gpu_it_says_why(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    if any(BACKENDS[name].probe().available for name in gpu.GPU_ENGINES):
        pytest.skip("an engine for GPUs can run here")
    assert gpu.main([str(bundle.path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith("gpu: Nothing to measure here: onnxruntime-cuda: ")
    assert "tensorrt-rtx: " in told


def test_an_unknown_engine(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([str(bundle.path), "--engines", "cuda"]) == 1
    assert "There is no engine called 'cuda'" in capsys.readouterr().err


def test_an_engine_that_fails_is_a_row_and_exit_code_1(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise gpu.EngineError("no room")

    monkeypatch.setattr(gpu, "open_engine", refuse)
    assert gpu.main([str(bundle.path), *QUICK]) == 1
    assert "| onnxruntime-cpu fp32 | 1 | no room |" in capsys.readouterr().out


def test_only_what_has_a_batch_is_repeated() -> None:
    specs = [TensorSpec("x", "float32", ("batch", 3, "height")), TensorSpec("index", "int64", ("height",))]
    feeds = {"x": np.arange(6, dtype=np.float32).reshape(1, 3, 2), "index": np.arange(2)}
    made = gpu.repeated(feeds, specs, 4)
    assert made["x"].shape == (4, 3, 2)
    np.testing.assert_array_equal(made["x"][3], feeds["x"][0])
    assert made["index"] is feeds["index"]
    assert gpu.axis_sizes(specs, made) == {"batch": 4, "height": 2}


@pytest.mark.skipif(isinstance(find_device(), str), reason=f"{find_device()}")
def test_on_a_gpu(bundle: Bundle, tmp_path: Path) -> None:
    settings = gpu.Settings(size=(16, 16), batches=(1, 2), rounds=2, steps=2, cache_dir=tmp_path)
    names = [name for name in gpu.GPU_ENGINES if BACKENDS[name].probe().available]
    if not names:
        pytest.skip("no engine for GPUs is installed")
    for row in gpu.measure(bundle, settings, names)["rows"]:
        assert row["failure"] is None
        assert row["sqnr_db"] > (80 if row["precision"] == "fp32" else 35)
        assert row["device_ms"] > 0
