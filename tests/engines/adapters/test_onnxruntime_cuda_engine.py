"""ONNX Runtime on a GPU, as far as that goes without one: what is asked of it, and every refusal before CUDA begins.

On a machine with onnxruntime-gpu and a GPU the contract's tests run on this backend too.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.adapters import onnxruntime_cuda_engine
from engines.adapters.onnxruntime_cuda_engine import OnnxRuntimeCudaEngine, cuda_of_wheel, is_fixed, provider_options
from engines.adapters.onnxruntime_engine import failures_of, import_onnxruntime
from engines.backends import open_engine
from engines.contract import Opening, TensorSpec
from engines.errors import EngineError, OutOfMemory
from engines.machine.cuda import Device
from engines.onnx_files.graph_file import GraphSignature, read_signature
from tests.engines.graphs import lookup_feeds, lookup_results, write_lookup

GPU = Device(name="H200", capability=(9, 0), memory=150 << 30, driver=(13, 0))

needs_cuda = pytest.mark.skipif(
    not onnxruntime_cuda_engine.probe().available, reason=onnxruntime_cuda_engine.probe().reason or "-"
)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, cuda_version: str = "13.0") -> None:
    """A wheel of onnxruntime-gpu as pip leaves it, as far as probing reads it."""
    info = folder / "onnxruntime_gpu-1.99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.99.0\n")
    package = folder / "onnxruntime" / "capi"
    package.mkdir(parents=True)
    (folder / "onnxruntime" / "__init__.py").write_text("")
    (package / "build_and_package_info.py").write_text(f"package_name = 'x'\ncuda_version = '{cuda_version}'\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)


def with_device(monkeypatch: pytest.MonkeyPatch, device: Device | str) -> None:
    monkeypatch.setattr(onnxruntime_cuda_engine, "find_device", lambda _number=0: device)


def test_the_driver_is_held_against_the_wheels_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "14.1")
    assert cuda_of_wheel() == (14, 1)
    with_device(monkeypatch, GPU)
    found = onnxruntime_cuda_engine.probe()
    assert not found.available
    assert found.reason.startswith("the NVIDIA driver is too old: it has CUDA 13.0, this package needs")
    with pytest.raises(EngineError, match=r"Opening .*lookup\.onnx: onnxruntime-cuda cannot run here: .*too old"):
        onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def test_the_package_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    with_device(monkeypatch, "no NVIDIA driver was found (libcuda.so.1 is not here)")
    found = onnxruntime_cuda_engine.probe()
    assert (found.available, found.version) == (False, None)
    with pytest.raises(EngineError, match=r"onnxruntime-cuda cannot start: no NVIDIA driver was found .* Type pip"):
        open_engine(write_lookup(tmp_path), backend="onnxruntime-cuda")


def test_the_package_with_a_gpu_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    with_device(monkeypatch, GPU)
    found = onnxruntime_cuda_engine.probe()
    assert (found.available, found.version, found.reason) == (True, "1.99.0", "")


def test_a_wheel_that_does_not_say_its_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    (tmp_path / "onnxruntime" / "capi" / "build_and_package_info.py").write_text("package_name = 'x'\n")
    assert cuda_of_wheel() is None


def test_what_the_provider_is_told() -> None:
    assert provider_options(capture=True)["enable_cuda_graph"] == "1"
    assert provider_options(capture=False)["enable_cuda_graph"] == "0"


def test_only_graphs_without_dynamic_axes_are_fixed() -> None:
    x, y = TensorSpec("x", "float32", (1, "h")), TensorSpec("y", "float32", (1, 2))
    assert is_fixed(GraphSignature(inputs=(y,), outputs=(y,), weights=()))
    assert not is_fixed(GraphSignature(inputs=(y,), outputs=(x,), weights=()))


Opened = list[tuple[bool, bool]]


def is_strict(options: Any) -> bool:
    try:
        return bool(options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1")
    except RuntimeError:  # it was not set
        return False


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str | None], list[str]], Opened]:
    """Sessions that refuse with the given words, None to accept, and claim `providers`; returns (captured, strict)."""
    onnxruntime = import_onnxruntime()
    with_device(monkeypatch, GPU)

    def prepare(answers: list[str | None], providers: list[str]) -> Opened:
        asked: Opened = []

        def session(_file: Path, options: Any, providers: list[Any]) -> Any:
            strict = is_strict(options)
            asked.append((providers[0][1]["enable_cuda_graph"] == "1", strict))
            words = answers[len(asked) - 1]
            if words is not None:
                raise RuntimeError(words)
            return opened

        opened = SimpleNamespace(get_providers=lambda: providers, io_binding=lambda: None)
        monkeypatch.setattr(onnxruntime, "InferenceSession", session)
        return asked

    return prepare


CPU_NODES = "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been"


def test_nodes_on_the_cpu_are_forbidden_where_they_can_be(sessions: Callable[..., Opened], tmp_path: Path) -> None:
    asked = sessions([None], ["CUDAExecutionProvider"])
    onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))
    assert asked == [(False, True)]


def test_nodes_that_compute_shapes_may_stay_on_the_cpu(sessions: Callable[..., Opened], tmp_path: Path) -> None:
    asked = sessions([CPU_NODES, None], ["CUDAExecutionProvider", "CPUExecutionProvider"])
    onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))
    assert asked == [(False, True), (False, False)]


def test_fixed_sizes_ask_for_a_graph_first(sessions: Callable[..., Opened], tmp_path: Path) -> None:
    asked = sessions([CPU_NODES, CPU_NODES, None], ["CUDAExecutionProvider"])
    sizes = {"batch": 1, "height": 5, "width": 6, "rows": 4}
    engine = onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32", sizes=sizes))
    assert asked == [(True, True), (False, True), (False, False)]
    assert isinstance(engine, onnxruntime_cuda_engine.OnnxRuntimeCudaEngine)
    assert not engine.captured


def test_the_device_reaches_the_provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = import_onnxruntime()
    monkeypatch.setattr(
        onnxruntime_cuda_engine, "find_device", lambda number: GPU if number == 1 else f"there is no GPU {number}"
    )
    asked: list[str] = []

    def session(_file: Path, _options: Any, providers: list[Any]) -> Any:
        asked.append(providers[0][1]["device_id"])
        return SimpleNamespace(get_providers=lambda: ["CUDAExecutionProvider"], io_binding=lambda: None)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32", device=1))
    assert asked == ["1"]
    with pytest.raises(EngineError, match=r"onnxruntime-cuda cannot run here: there is no GPU 3"):
        onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32", device=3))


def test_another_refusal_is_not_tried_again(sessions: Callable[..., Opened], tmp_path: Path) -> None:
    asked = sessions(["Frobnicate is not a registered op"], [])
    with pytest.raises(EngineError, match=r"Opening .*: onnxruntime-cuda refuses it: Frobnicate"):
        onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))
    assert len(asked) == 1


def test_out_of_memory_while_opening(sessions: Callable[..., Opened], tmp_path: Path) -> None:
    sessions(["CUDA failure 2: out of memory ; GPU=0"], [])
    with pytest.raises(OutOfMemory, match=r"Opening .*: onnxruntime-cuda ran out of memory \(CUDA failure 2"):
        onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def test_cuda_that_did_not_start_is_an_error_not_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Really: onnxruntime without CUDA answers a wish for CUDA with the CPU."""
    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with_device(monkeypatch, GPU)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(EngineError, match=r"could not start CUDA and took \['CPUExecutionProvider'\]\. .*cuDNN 9"),
    ):
        onnxruntime_cuda_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def bound_on_the_cpu(graph: Path, sizes: dict[str, int], captured: bool) -> OnnxRuntimeCudaEngine:
    """The engine with its binding on the CPU, where the same calls do the same; only capturing needs a GPU."""
    onnxruntime = import_onnxruntime()
    signature = read_signature(graph).with_sizes(graph, sizes)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    failures = failures_of(onnxruntime)
    return OnnxRuntimeCudaEngine(graph, signature, "fp32", onnxruntime, session, failures, captured, device="cpu")


SIZES = {"batch": 2, "height": 5, "width": 6, "rows": 4}


@pytest.mark.parametrize("captured", [False, True])
def test_bound_arrays_give_numpys_results(captured: bool, tmp_path: Path) -> None:
    with bound_on_the_cpu(write_lookup(tmp_path), SIZES if captured else {}, captured) as engine:
        feeds = lookup_feeds()
        first = engine.run(feeds)["picked"]
        kept = first.copy()
        np.testing.assert_allclose(first, lookup_results(feeds)["picked"], atol=2e-6)
        held = engine.hold({"index": feeds["index"], "gain": feeds["gain"]})
        for factor in (2, -3):
            changed = {"x": feeds["x"] * np.float32(factor)}
            results = engine.run(changed, held)
            for name, expected in lookup_results(feeds | changed).items():
                np.testing.assert_allclose(results[name], expected, atol=1e-5)
        np.testing.assert_array_equal(first, kept)
        other = engine.hold({"gain": np.array(4, np.float32)})
        rest = {"x": feeds["x"], "index": feeds["index"][::-1]}
        expected = lookup_results(rest | {"gain": np.array(4, np.float32)})["picked"]
        np.testing.assert_allclose(engine.run(rest, other)["picked"], expected, atol=1e-5)


def test_bound_arrays_may_change_their_size(tmp_path: Path) -> None:
    with bound_on_the_cpu(write_lookup(tmp_path), {}, captured=False) as engine:
        for size in [(2, 5, 6), (1, 3, 9), (3, 8, 2)]:
            feeds = lookup_feeds(*size)
            np.testing.assert_allclose(engine.run(feeds)["picked"], lookup_results(feeds)["picked"], atol=2e-6)


def test_a_failing_run_is_an_engine_error(tmp_path: Path) -> None:
    with bound_on_the_cpu(write_lookup(tmp_path), {}, captured=False) as engine:
        wrong = lookup_feeds() | {"index": np.array([0, 10**12], np.int64)}
        with pytest.raises(EngineError, match=r"Running lookup\.onnx: onnxruntime-cuda failed: .*indices"):
            engine.run(wrong)
        engine.run(lookup_feeds())


@needs_cuda
@pytest.mark.parametrize("fixed", [False, True])
def test_half_precision_is_close_to_numpy(fixed: bool, tmp_path: Path) -> None:
    feeds = lookup_feeds()
    sizes = {"batch": 2, "height": 5, "width": 6, "rows": 4} if fixed else None
    graph = write_lookup(tmp_path)
    with open_engine(
        graph, backend="onnxruntime-cuda", precision="fp16", sizes=sizes, cache_dir=tmp_path / "cache"
    ) as engine:
        held = engine.hold({"index": feeds["index"]})
        rest = {name: array for name, array in feeds.items() if name != "index"}
        for _ in range(3):  # plain, captured, launched
            picked = engine.run(rest, held)["picked"]
            np.testing.assert_allclose(picked, lookup_results(feeds)["picked"], atol=5e-3)
