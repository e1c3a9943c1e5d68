"""What is particular to OpenVINO: bfloat16, threads, and telemetry that stays off."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper

from engines.adapters import onnxruntime_engine, openvino_engine
from engines.contract import Opening
from engines.errors import EngineError, OutOfMemory
from tests.engines.graphs import value, write_lookup, write_model

pytestmark = pytest.mark.skipif(not openvino_engine.probe().available, reason=openvino_engine.probe().reason or "-")


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Six 3x3 convolutions of 32 channels with ReLU; large enough for OpenVINO to bother with bfloat16."""
    random = np.random.default_rng(3)
    weights = {f"w{i}": random.standard_normal((32, 32, 3, 3)).astype(np.float32) / np.float32(12) for i in range(6)}
    nodes = []
    for i, name in enumerate(weights):
        nodes.append(helper.make_node("Conv", [f"y{i}", name], [f"c{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i + 1}"]))
    return write_model(
        tmp_path / "deep.onnx",
        nodes,
        [value("y0", T.FLOAT, "batch", 32, "height", "width")],
        [value("y6", T.FLOAT, "batch", 32, "height", "width")],
        weights,
        "deep.bin",
    )


def relative_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def test_bfloat16_is_close_and_fp32_is_not_bfloat16(deep: Path) -> None:
    if not openvino_engine.has_bf16():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    if not onnxruntime_engine.probe().available:
        pytest.skip(onnxruntime_engine.probe().reason)
    feeds = {"y0": np.random.default_rng(5).standard_normal((1, 32, 24, 20)).astype(np.float32)}
    with onnxruntime_engine.open_engine(deep, Opening(precision="fp32", threads=1)) as engine:
        expected = engine.run(feeds)["y6"]
    with openvino_engine.open_engine(deep, Opening(precision="fp32", threads=1)) as engine:
        assert relative_error(engine.run(feeds)["y6"], expected) < 1e-5
    with openvino_engine.open_engine(deep, Opening(precision="bf16", threads=1)) as engine:
        assert engine.precision == "bf16"
        half = engine.run(feeds)["y6"]
    # bfloat16 keeps 8 bits, so one rounding is at most 2^-8 = 0.4 % off; six layers round inputs and weights
    assert half.dtype == np.float32
    assert 1e-4 < relative_error(half, expected) < 12 * 2**-8


def test_bfloat16_is_refused_where_the_cpu_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(openvino_engine.import_openvino(), "Core", lambda: plain)
    with pytest.raises(EngineError, match=r"this CPU has no bfloat16 arithmetic\. Ask for `precision` fp32"):
        openvino_engine.open_engine(write_lookup(tmp_path), Opening(precision="bf16"))


@pytest.mark.parametrize(("limit", "refused"), [("AVX2", True), ("avx2_vnni", True), ("AVX512_CORE_VNNI", False)])
def test_bfloat16_is_refused_where_onednn_is_told_to_do_without_avx512(
    limit: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8", "BF16"])
    monkeypatch.setattr(openvino_engine.import_openvino(), "Core", lambda: everything)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert openvino_engine.has_bf16() is not refused
    if refused:
        with pytest.raises(EngineError, match=r"this CPU has no bfloat16 arithmetic\. Ask for `precision` fp32"):
            openvino_engine.open_engine(write_lookup(tmp_path), Opening(precision="bf16"))


def test_more_threads_than_openvino_would_use_are_refused(tmp_path: Path) -> None:
    count = os.cpu_count() or 1
    with pytest.raises(EngineError, match=rf"{count + 1} threads were asked for, OpenVINO uses \d+ .* at most"):
        openvino_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32", threads=count + 1))


def test_out_of_memory_while_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to allocate 9 bytes of memory")

    empty = SimpleNamespace(get_ordered_ops=list)
    full = SimpleNamespace(read_model=lambda _: empty, compile_model=fail)
    monkeypatch.setattr(openvino_engine.import_openvino(), "Core", lambda: full)
    with pytest.raises(OutOfMemory, match=r"Opening .*lookup\.onnx: openvino-cpu ran out of memory"):
        openvino_engine.open_engine(write_lookup(tmp_path), Opening(precision="fp32"))


def test_on_one_thread_a_failed_run_does_not_return_the_results_of_the_one_before(tmp_path: Path) -> None:
    graph = write_model(
        tmp_path / "fold.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", T.FLOAT, "n"), value("shape", T.INT64, 2)],
        [value("y", T.FLOAT, "rows", "columns")],
    )
    x = np.arange(6, dtype=np.float32)
    with openvino_engine.open_engine(graph, Opening(precision="fp32", threads=1)) as engine:
        assert engine.run({"x": x, "shape": np.array([2, 3])})["y"].shape == (2, 3)
        with pytest.raises(OutOfMemory, match=r"y was not computed\. On one thread OpenVINO does not say why"):
            engine.run({"x": x, "shape": np.array([4, 4])})
        assert engine.run({"x": x, "shape": np.array([3, 2])})["y"].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_an_output_of_static_shape(tmp_path: Path) -> None:
    graph = write_model(
        tmp_path / "static.onnx",
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", T.FLOAT, 2)],
        [value("y", T.FLOAT, 2)],
    )
    with openvino_engine.open_engine(graph, Opening(precision="fp32", threads=1)) as engine:
        for sign in (1, -1):
            result = engine.run({"x": np.array([sign, 2], np.float32)})["y"]
            np.testing.assert_array_equal(result, [max(sign, 0), 2])


def test_importing_leaves_the_telemetry_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    openvino_engine.import_openvino()
    assert "openvino_telemetry" not in sys.modules
    mine = ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", mine)
    openvino_engine.import_openvino()
    assert sys.modules["openvino_telemetry"] is mine
