from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from engines import saturation
from engines.backends import BACKENDS, open_engine
from engines.saturation import CHANNELS, EXACT, int8_saturates, probe_graph

AVAILABLE = [name for name, module in BACKENDS.items() if module.probe().available]


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
    """VNNI excludes saturation; without it either answer may be right."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for backend in AVAILABLE:
        assert int8_saturates(backend) in ({False} if "vnni" in flags else {False, True})


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
