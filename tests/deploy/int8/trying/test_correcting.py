"""What is left of int8's error in the estimated pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.passes.inputs import Inputs
from deploy.bundle import Bundle
from deploy.int8.trying import correcting
from deploy.int8.trying.comparison import int8_session
from deploy.int8.trying.correcting import EstimateErrors, noise_corrections
from deploy.picture.session import Session
from tests.deploy.int8.made_up import quantized_without_calibration


def test_by_hand() -> None:
    """At noise level 0.6, sigma 0.8: x0 = (x - 0.8 n) / 0.6. Differences 0.4 and -0.4, then 0.8 and 0; mean 0.2."""
    errors = EstimateErrors([0.5, 0.6], channels=1, clip=False)
    x = np.zeros((1, 1, 1, 2), np.float32)
    exact = np.array([[[[-0.3, -0.6]]]], np.float32)  # estimates 0.4 and 0.8
    errors.add(1, x, exact, np.array([[[[0.0, -0.9]]]], np.float32))  # 0 and 1.2
    errors.add(1, x, exact, np.array([[[[0.3, -0.6]]]], np.float32))  # -0.4 and 0.8
    assert errors.variance(1) == pytest.approx((0.16 + 0.16 + 0.64 + 0) / 4 - 0.2**2)


def test_what_the_sampler_cuts_off_counts_as_cut_off() -> None:
    errors = EstimateErrors([0.6], channels=2, clip=True)
    x = np.zeros((1, 2, 1, 2), np.float32)
    exact = np.array([[[[-3, -3]], [[-3, 0]]]], np.float32)  # estimates 4 and 4, 4 and 0: cut to 1, 1 and 1, 0
    errors.add(0, x, exact, np.array([[[[-6, -2]], [[6, 0]]]], np.float32))  # cut to 1, 1 and -1, 0
    assert errors.variance(0) == pytest.approx((0 + (4 / 2 - 1)) / 2)  # differences 0, 0 and 2, 0


def test_a_constant_error_leaves_no_noise() -> None:
    errors = EstimateErrors([0.6], channels=3, clip=False)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    errors.add(0, x, x, x + np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1))
    assert errors.variance(0) == pytest.approx(0, abs=1e-9)


def test_int8_graphs_run_on_as_many_threads_as_asked_for(
    micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = quantized_without_calibration(micro.path, tmp_path / "int8.bundle", "ort", 1)
    opened: list[Session] = []

    def watched(*arguments: Any) -> Session:
        opened.append(int8_session(*arguments))
        return opened[-1]

    monkeypatch.setattr(correcting, "int8_session", watched)
    nothing = Inputs(lambda _: iter(()), lambda _: [], lambda _: 0, [])
    found = noise_corrections(bundle, ["ort"], nothing, [], threads=2, progress=lambda _doing, _fraction: None)
    assert found == {"ort": []}
    assert [upscaler.choice.threads for upscaler in opened] == [1]  # and two callers at a time
