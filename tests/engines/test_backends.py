"""The table of backends: looking up, probing, and what is missing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engines.adapters import onnxruntime_cuda_engine
from engines.backends import BACKENDS, DEFAULT_BACKEND, backend_named, open_engine, probe_all, register
from engines.contract import Opening
from engines.errors import EngineError
from engines.plans import tensorrt_names
from tests.engines.graphs import write_lookup

MODULES = {"onnxruntime-cpu": "onnxruntime", "openvino-cpu": "openvino"}
"""Backend -> the module that it cannot do without."""
GPU_PACKAGES = {"onnxruntime-cuda": "onnxruntime-gpu", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Backend -> what its refusal names. A GPU is asked for before their modules are imported."""


def test_every_backend_is_covered_here() -> None:
    assert {*MODULES, *GPU_PACKAGES} == set(BACKENDS)
    assert next(iter(BACKENDS)) == DEFAULT_BACKEND


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("onnxruntime", r"There is no engine called 'onnxruntime'\. Did you mean onnxruntime-cpu\?"),
        ("opnvino-cpu", r"Did you mean openvino-cpu\?"),
        ("zzz", r"There are onnxruntime-cpu, openvino-cpu, onnxruntime-cuda, tensorrt, tensorrt-rtx\."),
    ],
)
def test_unknown_backend(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=message):
        open_engine(write_lookup(tmp_path), backend=name)


needs_onnxruntime = pytest.mark.skipif(
    not BACKENDS["onnxruntime-cpu"].probe().available, reason="onnxruntime is not installed"
)


@needs_onnxruntime
def test_the_default_is_onnxruntime(tmp_path: Path) -> None:
    with open_engine(write_lookup(tmp_path), threads=1) as engine:
        assert engine.name == "onnxruntime-cpu"


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_a_sentence_and_a_pip_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    found = backend_named(name).probe()
    assert not found.available
    assert found.version is None
    assert found.reason == f"the package {MODULES[name]} is not installed"
    graph = write_lookup(tmp_path)
    with pytest.raises(EngineError, match=rf"{name} cannot start: .* not installed\. Type pip install 'idm-deploy\["):
        open_engine(graph, backend=name)
    # the package is there by name, but its import fails
    with pytest.raises(EngineError, match=rf"The engine {name} cannot start \(.*{MODULES[name]}.*\)\. Type pip"):
        BACKENDS[name].open_engine(graph, Opening(precision="fp32"))


@pytest.mark.parametrize("name", GPU_PACKAGES)
def test_a_missing_gpu_package_is_a_sentence_and_a_pip_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_: str) -> None: ...

    monkeypatch.setattr(onnxruntime_cuda_engine, "installed_version", nothing)
    monkeypatch.setattr(tensorrt_names, "installed_version", nothing)
    found = backend_named(name).probe()
    assert (found.available, found.version) == (False, None)
    assert found.reason == f"{GPU_PACKAGES[name]} is not installed"
    with pytest.raises(EngineError, match=rf"{name} cannot start: .* not installed\. Type pip install 'idm-deploy\["):
        open_engine(write_lookup(tmp_path), backend=name)


@needs_onnxruntime
def test_both_distributions_of_onnxruntime_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        info = tmp_path / f"{name}-1.99.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.99.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = BACKENDS["onnxruntime-cpu"].probe()
    assert found.available
    assert found.reason == (
        "onnxruntime 1.99.0 and onnxruntime-gpu 1.99.0 are both installed and overwrite each other's files: "
        "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
    )


def test_probing_names_versions_and_imports_nothing() -> None:
    program = """
import sys
from engines.backends import probe_all
for found in probe_all():
    print(found.name, found.available, found.version)
assert not {"onnxruntime", "openvino", "onnx", "torch", "tensorrt", "tensorrt_rtx"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{f.name} {f.available} {f.version}" for f in probe_all()]
    assert len(probe_all()) == len(BACKENDS)


def test_precisions_are_complete() -> None:
    assert {name: backend.precisions for name, backend in BACKENDS.items()} == {
        "onnxruntime-cpu": ("fp32",),
        "openvino-cpu": ("fp32", "bf16"),
        "onnxruntime-cuda": ("fp32", "fp16"),
        "tensorrt": ("fp16", "fp32"),
        "tensorrt-rtx": ("fp16", "fp32"),
    }


def test_a_name_is_given_to_one_backend_only() -> None:
    with pytest.raises(EngineError, match=r"There is an engine called 'openvino-cpu' already; give the new one"):
        register(BACKENDS["openvino-cpu"])


def test_a_record_that_nothing_could_run_with_is_refused() -> None:
    with pytest.raises(
        EngineError,
        match=r"cannot run a bundle's graphs: it has no precision; group normalisation is written as instance or group,"
        r" found 'batch'; around int8 it has no 'fp8'; saturating sums are .* found 'ignored'\.",
    ):
        replace(BACKENDS[DEFAULT_BACKEND], precisions=(), norm="batch", around_int8="fp8", saturating_sums="ignored")
