"""The same int8 graph on two backends is equally far from float, in a step and in whole pictures."""

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, sqnr_db, trial_step
from deploy.measure.metrics import fidelity
from deploy.picture.upscaler import Upscaler
from engines.backends import BACKENDS
from engines.saturation import is_refused
from tests.backends import change_backend

CPU_BACKENDS = ("onnxruntime-cpu", "openvino-cpu")
REFERENCE = EngineChoice(threads=1)

pytestmark = pytest.mark.skipif(
    not all(BACKENDS[name].probe().available for name in CPU_BACKENDS), reason="only one engine for CPUs is installed"
)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[EngineChoice]:
    """The form for OpenVINO, which ONNX Runtime reads alike, with float32 around the int8 layers on both."""
    if is_refused("openvino-cpu"):
        pytest.skip("this CPU cuts sums of int8 products off")
    for name in CPU_BACKENDS:
        change_backend(monkeypatch, name, around_int8="fp32")
    return [EngineChoice(backend=name, precision="int8", threads=1, int8_target="openvino") for name in CPU_BACKENDS]


def test_a_step(quantized_idm: Bundle, choices: list[EngineChoice]) -> None:
    def answer(choice: EngineChoice) -> np.ndarray:
        with GraphSet(quantized_idm, choice) as graphs:
            return trial_step(graphs, TrialSettings(size=(32, 24))).predicted_noise(graphs)

    agree([sqnr_db(answer(REFERENCE), answer(choice)) for choice in choices])


def test_whole_pictures(quantized_idm: Bundle, choices: list[EngineChoice]) -> None:
    """From the same noise, by the default preset. Rounding to 8 bits alone is 58.9 dB."""
    lr = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    def picture(choice: EngineChoice) -> np.ndarray:
        with Upscaler.of_graphs(GraphSet(quantized_idm, choice)) as upscaler:
            return upscaler.upscale([lr] * 4, scale=4.0)[0]

    agree([fidelity(picture(REFERENCE), picture(choice)) for choice in choices])


def agree(decibels: list[float]) -> None:
    assert all(8 < value < 58 for value in decibels), decibels
    assert max(decibels) - min(decibels) < 1.0
