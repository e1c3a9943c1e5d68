import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from engines import saturation
from engines.backends import BACKENDS, open_engine
from engines.errors import EngineError
from engines.onnx_files.graph_constants import with_constants
from engines.saturation import (
    CHANNELS,
    EXACT,
    constants_without_saturation,
    int8_saturates,
    is_refused,
    probe_graph,
    unsigned_constants,
)
from tests.engines.graphs import write_lookup

AVAILABLE = [name for name, module in BACKENDS.items() if module.probe().available]


@pytest.fixture(autouse=True)
def answers_are_forgotten() -> Iterator[None]:
    int8_saturates.cache_clear()
    yield
    int8_saturates.cache_clear()


@pytest.fixture
def int8_graph(tmp_path: Path) -> Path:
    path = tmp_path / "int8.onnx"
    path.write_bytes(probe_graph())
    return path


def saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "int8_saturates", lambda _: True)


def test_the_graph_is_what_the_docstring_says() -> None:
    """By ONNX's own checker and reference implementation, which multiplies in float."""
    model = onnx.load_from_string(probe_graph())
    onnx.checker.check_model(model, full_check=True)
    x = np.full((1, CHANNELS, 8, 8), 255, dtype=np.float32)
    (found,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(found, EXACT, atol=1)


def test_pairs_cut_off_at_16_bits_would_be_noticed() -> None:
    pairs = np.clip(np.full(CHANNELS // 2, 2 * 255 * 127), -32768, 32767).sum() / (255 * 127 * CHANNELS) * EXACT
    assert round(float(pairs)) == 101


@pytest.mark.skipif(not AVAILABLE, reason="no backend is installed")
def test_this_cpu_is_probed() -> None:
    """VNNI excludes saturation; without it, or with oneDNN told to do without, either answer may be right."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    exact = "vnni" in flags and "ONEDNN_MAX_CPU_ISA" not in os.environ
    for backend in AVAILABLE:
        assert int8_saturates(backend) in ({False} if exact else {False, True})


@pytest.mark.skipif(not AVAILABLE, reason="no backend is installed")
@pytest.mark.parametrize("weight", [64, -128])
def test_a_wrong_answer_is_saturation(monkeypatch: pytest.MonkeyPatch, weight: int) -> None:
    """A graph with other weights stands in for a CPU that computes something else."""
    wrong = probe_graph().replace(bytes([127]) * CHANNELS**2, bytes([weight % 256]) * CHANNELS**2)
    monkeypatch.setattr(saturation, "probe_graph", lambda: wrong)
    assert int8_saturates(AVAILABLE[0])


@pytest.mark.skipif("onnxruntime-cpu" not in AVAILABLE, reason="ONNX Runtime is not installed")
def test_seven_bit_weights_cannot_saturate(tmp_path: Path) -> None:
    """The largest sum of two products fits 16 bits, on any CPU."""
    assert 2 * 255 * 64 <= 32767
    path = tmp_path / "seven.onnx"
    path.write_bytes(probe_graph().replace(bytes([127]) * CHANNELS**2, bytes([64]) * CHANNELS**2))
    with open_engine(path, threads=1) as engine:
        found = engine.run({"x": np.full((1, CHANNELS, 8, 8), 255, dtype=np.float32)})["y"]
    np.testing.assert_array_equal(found, round(EXACT * 64 / 127))


@pytest.mark.skipif("onnxruntime-cpu" not in AVAILABLE, reason="ONNX Runtime is not installed")
def test_weights_become_unsigned_where_sums_would_be_cut_off(int8_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form, which no CPU saturates on, and that it gives the right answer."""
    saturate(monkeypatch)
    constants = constants_without_saturation(int8_graph, "onnxruntime-cpu")
    assert {name: (one.dtype, set(one.reshape(-1).tolist())) for name, one in constants.items()} == {
        "weight": (np.uint8, {255}),
        "weight_zero": (np.uint8, {128}),
    }
    kinds = {
        tensor.data_type
        for tensor in onnx.load_from_string(with_constants(int8_graph, constants)).graph.initializer
        if tensor.name != "one"
    }
    assert kinds == {TensorProto.UINT8, TensorProto.FLOAT}
    with open_engine(int8_graph, threads=1, constants=constants) as engine:
        found = engine.run({"x": np.full((1, CHANNELS, 8, 8), 255, dtype=np.float32)})["y"]
    np.testing.assert_array_equal(found, EXACT)


def test_every_code_gets_128_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(-128, 128, dtype=np.int8)
    monkeypatch.setattr(saturation, "read_constants", lambda _graph, _dtype: {"w": codes})
    np.testing.assert_array_equal(unsigned_constants(tmp_path)["w"], np.arange(256, dtype=np.uint8))


def test_openvino_is_refused_where_it_saturates(int8_graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saturate(monkeypatch)
    assert (is_refused("openvino-cpu"), is_refused("onnxruntime-cpu"), is_refused("tensorrt")) == (True, False, False)
    with pytest.raises(EngineError, match=r"openvino-cpu cuts sums of int8 products off at 16 bits .*onnxruntime-cpu"):
        constants_without_saturation(int8_graph, "openvino-cpu")


def test_nothing_is_changed_without_need(int8_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPUs, in graphs without int8, and on CPUs whose sums are right."""
    saturate(monkeypatch)
    assert constants_without_saturation(int8_graph, "tensorrt") == {}
    assert constants_without_saturation(write_lookup(tmp_path), "onnxruntime-cpu") == {}
    assert constants_without_saturation(write_lookup(tmp_path), "openvino-cpu") == {}
    monkeypatch.setattr(saturation, "int8_saturates", lambda _: False)
    assert constants_without_saturation(int8_graph, "onnxruntime-cpu") == {}
    assert constants_without_saturation(int8_graph, "openvino-cpu") == {}


@pytest.mark.skipif(
    "openvino-cpu" not in AVAILABLE or platform.machine() not in ("x86_64", "AMD64"),
    reason="OpenVINO on x86 is needed",
)
@pytest.mark.parametrize(("features", "saturates"), [("AVX2", True), ("DEFAULT", None)])
def test_openvino_without_vnni(features: str, saturates: bool | None) -> None:
    """oneDNN can be told to do without VNNI: then it really cuts sums off, and the probe sees it."""
    code = "import json; from engines.saturation import is_refused; print(json.dumps(is_refused('openvino-cpu')))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": features},
    )
    if saturates is None and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        saturates = int8_saturates("openvino-cpu")
    assert json.loads(done.stdout) in ((True, False) if saturates is None else (saturates,))
