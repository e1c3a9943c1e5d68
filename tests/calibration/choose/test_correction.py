"""Means taken back: in a layer's bias and in the predicted noise."""

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.choose.correction import (
    InputMean,
    NoiseCorrection,
    NoiseErrors,
    bias_correction,
    remaining_noise_scale,
    unfolded_mean,
)
from calibration.choose.quantizer import Quantizer
from calibration.errors import ChoiceError, StatisticsError, WeightError
from calibration.observe.covariance import Geometry
from tests.calibration.observe.test_covariance import GEOMETRY, inputs, positions_by_loops

COARSE = Quantizer(scale=0.4, lowest=-2, highest=1)


def test_means_are_those_of_all_positions() -> None:
    values = inputs()
    assert unfolded_mean(values, GEOMETRY) == pytest.approx(positions_by_loops(values, GEOMETRY).mean(axis=0))


def test_the_corrected_layer_has_the_exact_mean() -> None:
    rng = np.random.default_rng(0)
    geometry = Geometry(channels=4, kernel=(3, 2), stride=(2, 1), padding=(1, 0, 2, 1), groups=2)
    weight = rng.standard_normal((6, 2, 3, 2))
    rounded = np.round(weight, 1)
    means = InputMean(geometry)
    for seed in range(3):
        means.add(inputs(seed=seed) + 1, COARSE)
    added = bias_correction("conv", weight, rounded, means.mean, means.rounding_mean)

    values = np.concatenate([inputs(seed=seed) + 1 for seed in range(3)])
    exact = positions_by_loops(values, geometry).reshape(-1, 2, 12)
    quantized = positions_by_loops(COARSE.round_trip(values), geometry).reshape(-1, 2, 12)
    for output in range(6):
        group = output // 3
        difference = exact[:, group] @ weight[output].reshape(-1) - quantized[:, group] @ rounded[output].reshape(-1)
        # the rounding error itself is rounded to float32 before it is averaged
        assert added[output] == pytest.approx(difference.mean(), abs=1e-6)


def test_exact_activations_need_no_rounding_mean() -> None:
    added = bias_correction("fc", np.array([[1.0, 2.0]]), np.array([[0.5, 2.5]]), np.array([3.0, 1.0]))
    assert added.tolist() == [1.0]  # 0.5·3 - 0.5·1


def predictions(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32).reshape(1, 1, 1, -1)


def test_the_example_of_the_module() -> None:
    errors = NoiseErrors(steps=1, channels=1)
    errors.add(0, predictions(1, -1, 2), predictions(0.9, -0.7, 1.6))
    line = errors.correction(0, 0.5)
    assert (*line.gain, *line.offset) == pytest.approx((1.2963, -0.1111), abs=1e-4)
    assert line.variance == pytest.approx((0.0016,), abs=1e-4)


def test_corrections_are_per_step_and_channel() -> None:
    rng = np.random.default_rng(1)
    exact = rng.standard_normal((2, 3, 4, 5))
    gains, offsets = np.array([1.1, 0.9, 1.0]), np.array([0.1, 0.0, -0.2])
    quantized = (exact - offsets[:, None, None]) / gains[:, None, None]
    errors = NoiseErrors(steps=2, channels=3)
    errors.add(1, exact[:1], quantized[:1])
    errors.add(1, exact[1:], quantized[1:])
    correction = errors.correction(1, 0.9)
    assert correction.noise_level == 0.9
    assert correction.gain == pytest.approx(tuple(gains))
    assert correction.offset == pytest.approx(tuple(offsets), abs=1e-12)
    assert correction.variance == pytest.approx((0, 0, 0), abs=1e-12)


def test_a_constant_prediction_keeps_its_gain() -> None:
    errors = NoiseErrors(steps=1, channels=1)
    errors.add(0, predictions(1, 2), predictions(0.5, 0.5))
    correction = errors.correction(0, 0.5)
    assert (correction.gain, correction.offset, correction.variance) == ((1.0,), (1.0,), (0.25,))


def test_an_uncertain_prediction_is_not_shrunk() -> None:
    """Exact noise of variance 1 with an independent error of 0.25: least squares would shrink it to 0.8."""
    rng = np.random.default_rng(2)
    exact, error = rng.standard_normal((2, 1, 1, 200, 200))
    errors = NoiseErrors(steps=1, channels=1)
    errors.add(0, exact, exact + 0.5 * error)
    correction = errors.correction(0, 0.5)
    assert correction.gain == pytest.approx((1.0,), abs=0.01)
    assert correction.variance == pytest.approx((0.25,), abs=0.01)


def test_what_has_little_to_do_with_the_exact_noise_keeps_its_gain() -> None:
    rng = np.random.default_rng(2)
    exact, error = rng.standard_normal((2, 1, 1, 50, 50))
    for prediction in (error, -exact, exact + 2 * error):
        errors = NoiseErrors(steps=1, channels=1)
        errors.add(0, exact, prediction)
        assert errors.correction(0, 0.5).gain == (1.0,)


def test_noise_that_is_there_already_is_not_added() -> None:
    assert remaining_noise_scale(0.5, 2.0, 0.04) == pytest.approx(0.3)  # 0.25 - 4·0.04 = 0.09
    assert remaining_noise_scale(0.1, 2.0, 0.04) == 0.0


def test_misfits_are_refused() -> None:
    errors = NoiseErrors(steps=2, channels=1)
    with pytest.raises(StatisticsError, match="step 2 is outside the plan, whose 2 steps"):
        errors.add(2, predictions(1), predictions(1))
    with pytest.raises(StatisticsError, match=r"at step 0: two arrays of shape \(batch, 1, rows, columns\)"):
        errors.add(0, predictions(1), predictions(1, 2))
    with pytest.raises(StatisticsError, match="at step 0: some values are not finite"):
        errors.add(0, predictions(1), predictions(np.nan))
    with pytest.raises(StatisticsError, match="at step 1: nothing was compared"):
        errors.correction(1, 0.5)
    means = InputMean(GEOMETRY)
    with pytest.raises(StatisticsError, match="none was gathered"):
        _ = means.mean
    with pytest.raises(StatisticsError, match="none was gathered"):
        _ = means.rounding_mean
    with pytest.raises(StatisticsError, match=r"found \(2, 3, 7, 5\)"):
        means.add(inputs(channels=3), COARSE)
    with pytest.raises(WeightError, match=r"bias of 'fc': weights \(1, 2\)"):
        bias_correction("fc", np.ones((1, 2)), np.ones((1, 2)), np.ones(3))
    with pytest.raises(ChoiceError, match="one variance of at least 0 per channel"):
        NoiseCorrection(noise_level=0.5, gain=(1.0,), offset=(0.0,), variance=(-1.0,))
