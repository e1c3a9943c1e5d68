"""Scales from histograms: hand arithmetic, brute force on the samples themselves, and an exhaustive search."""

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.choose.clipping import (
    Entropy,
    Method,
    MinMax,
    Mse,
    Percentile,
    choose_for_steps,
    choose_quantizer,
    expected_error,
    least_error,
    scale_grid,
    window_errors,
)
from calibration.choose.density import Density, density_of
from calibration.choose.quantizer import Asymmetric, Form, Quantizer, Shifted, Symmetric
from calibration.errors import ChoiceError, StatisticsError
from calibration.observe.statistics import histogram_of
from tests.calibration.choose.test_density import even_density

FORMS: list[Form] = [Symmetric(), Asymmetric(), Shifted()]
METHODS: list[Method] = [MinMax(), Percentile(), Mse(), Entropy()]


def silu_samples(seed: int = 0, width: float = 2.0, count: int = 40_000) -> NDArray[np.float32]:
    values = width * np.random.default_rng(seed).standard_normal(count)
    activated: NDArray[np.float32] = (values / (1 + np.exp(-values))).astype(np.float32)
    return activated


def relu_samples(count: int = 4000) -> NDArray[np.float64]:
    return np.maximum(np.random.default_rng(4).standard_normal(count), 0)


def error_on(values: NDArray[np.float32], quantizer: Quantizer) -> float:
    return float(np.mean((values.astype(np.float64) - quantizer.round_trip(values)) ** 2))


def test_the_example_of_the_module() -> None:
    density = even_density(0, 1024, exponent=-10)
    assert expected_error(density, Quantizer(scale=0.5, lowest=-1, highest=1)) == pytest.approx(5 / 96)


def test_fine_steps_cost_a_twelfth_of_the_step_squared() -> None:
    density = even_density(-2048, 2048, exponent=-11)  # evenly on [-1, 1): 64 steps and clipping far away
    error = expected_error(density, Quantizer(scale=1 / 32, lowest=-127, highest=127))
    assert error == pytest.approx((1 / 32) ** 2 / 12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [0.2, 0.6, 1.0, 1.7])
def test_the_expected_error_is_that_of_the_samples(form: Form, factor: float) -> None:
    values = silu_samples()
    covering = form.covering(float(values.min()), float(values.max()))
    quantizer = Quantizer(scale=factor * covering.scale, lowest=covering.lowest, highest=covering.highest)
    expected = expected_error(density_of(histogram_of(values)), quantizer)
    # Values are not quite evenly spread in their bin: seen up to 1.2 %.
    assert expected == pytest.approx(error_on(values, quantizer), rel=0.025)


@pytest.mark.parametrize("form", FORMS)
def test_the_table_of_windows_holds_the_error_of_each(form: Form) -> None:
    density = density_of(histogram_of(silu_samples(count=2000)))
    scales = np.array([0.02, 0.05, 0.3])
    errors = window_errors(density, scales, form)
    assert errors.shape == (3, form.lowest_codes.size)
    for row, column in [(0, 0), (1, -1), (2, form.lowest_codes.size // 2)]:
        lowest = int(form.lowest_codes[column])
        quantizer = Quantizer(scale=scales[row], lowest=lowest, highest=lowest + form.levels - 1)
        # float64 cumulative sums; the quantizer's scale is rounded to float32
        assert errors[row, column] == pytest.approx(expected_error(density, quantizer), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_search_finds_what_brute_force_on_the_samples_finds(form: Form) -> None:
    values = silu_samples(count=3000)
    chosen = choose_quantizer(density_of(histogram_of(values)), form, Mse())
    covering = form.covering(float(values.min()), float(values.max()))
    best = min(
        error_on(values, Quantizer(scale=scale, lowest=lowest, highest=lowest + form.levels - 1))
        for scale in covering.scale * np.geomspace(0.3, 1.05, 60)
        for lowest in (form.lowest_codes if form.lowest_codes.size == 1 else range(-14, 1))
    )
    assert error_on(values, chosen) <= 1.03 * best  # 4.4 % between scales, and the bins


def test_asymmetric_beats_symmetric_after_silu_and_clipping_beats_min_max() -> None:
    values = silu_samples(width=3.0)
    density = density_of(histogram_of(values))
    errors = {
        (form, method): error_on(values, choose_quantizer(density, form, method))
        for form in FORMS
        for method in METHODS
    }
    for method in METHODS[:3]:  # the divergence of so few samples in so many bins is mostly their noise
        assert errors[Asymmetric(), method] < errors[Symmetric(), method] / 2
        assert errors[Shifted(), method] < errors[Symmetric(), method] / 2
    for form in FORMS:
        assert errors[form, Mse()] <= 1.01 * min(errors[form, method] for method in METHODS)  # the grid of scales


def test_percentile_clips_the_share_it_says() -> None:
    values = np.linspace(-1, 3, 10_001, dtype=np.float32)
    density = density_of(histogram_of(values))
    # |x| of 1 % of the values lies above 2.96 (a fourth of the mass is doubled up below 1, none of it there).
    assert choose_quantizer(density, Symmetric(), Percentile(percent=99)).scale * 127 == pytest.approx(2.96, abs=0.005)
    both_ends = choose_quantizer(density, Asymmetric(), Percentile(percent=98))  # -0.96 .. 2.96
    assert both_ends.scale * 255 == pytest.approx(3.92, abs=0.01)
    assert both_ends.lowest * both_ends.scale == pytest.approx(-0.96, abs=both_ends.scale / 2)
    assert choose_quantizer(density, Symmetric(), Percentile(percent=100)) == Symmetric().covering(-1, 3)


def test_entropy_keeps_an_even_distribution_and_cuts_a_lone_outlier() -> None:
    even = density_of(histogram_of(np.linspace(-1, 1, 50_000, dtype=np.float32)))
    assert choose_quantizer(even, Symmetric(), Entropy()).scale * 127 > 0.9
    values = np.append(np.random.default_rng(0).standard_normal(50_000), 40).astype(np.float32)
    bound = choose_quantizer(density_of(histogram_of(values)), Symmetric(), Entropy()).scale * 127
    assert 2.5 < bound < 20


def test_min_max_follows_the_extremes() -> None:
    density = density_of(histogram_of(np.array([-0.28, 1, 10], dtype=np.float32)))
    assert choose_quantizer(density, Asymmetric(), MinMax()) == Asymmetric().covering(density.minimum, density.maximum)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_is_represented_exactly(form: Form, method: Method) -> None:
    density = density_of(histogram_of(np.zeros(8, dtype=np.float32)))
    quantizer = choose_quantizer(density, form, method)
    assert quantizer.round_trip(np.zeros(3)).tolist() == [0, 0, 0]


def test_several_steps_share_the_scale_of_least_summed_error() -> None:
    steps: list[Density] = [density_of(histogram_of(silu_samples(k, width=1.0 + k))) for k in range(3)]
    weights = [1.0, 0.5, 0.1]

    def total(quantizer: Quantizer) -> float:
        return sum(w * expected_error(step, quantizer) for step, w in zip(steps, weights, strict=True))

    chosen = choose_for_steps(steps, Symmetric(), Mse(), weights)
    others = [Quantizer(scale=s, lowest=-127, highest=127) for s in scale_grid(steps, Symmetric(), Mse())]
    assert total(chosen) == pytest.approx(min(total(other) for other in others))
    assert chosen.scale < choose_for_steps(steps, Symmetric(), Mse(), [0.0, 0.0, 1.0]).scale
    widest = max(float(step.maximum) for step in steps)
    assert choose_for_steps(steps, Symmetric(), MinMax()).scale == pytest.approx(widest / 127)


def test_grids_of_different_densities_are_cut_from_the_same_one() -> None:
    first, second = even_density(0, 1500, exponent=-10), even_density(0, 1100, exponent=-6)
    grid = set(scale_grid([first, second], Symmetric(), Mse()).tolist())
    assert set(scale_grid([first], Symmetric(), Mse()).tolist()) < grid
    assert set(scale_grid([second], Symmetric(), Mse()).tolist()) < grid


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(ChoiceError, match="percentile: 120 was asked for"):
        Percentile(percent=120)
    with pytest.raises(ChoiceError, match="fineness 0 and 5 octaves"):
        Mse(fineness=0)
    with pytest.raises(ChoiceError, match="0 bounds were asked for"):
        Entropy(bounds=0)
    with pytest.raises(StatisticsError, match="no density was given"):
        least_error([], Symmetric(), Mse())


@pytest.mark.parametrize("form", [Asymmetric(), Shifted()], ids=str)
@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("values", [np.arange(0, 256) / 255, np.zeros(8), [0, 0, 3], relu_samples()], ids=len)
def test_values_on_one_side_of_zero_get_all_codes_there(
    form: Form, method: Method, values: NDArray[np.float64]
) -> None:
    """Also where nothing is clipped, so that windows on both sides of 0 err alike."""
    above = np.asarray(values, dtype=np.float32)
    one, other = (choose_quantizer(density_of(histogram_of(side)), form, method) for side in (above, -above))
    assert (one.lowest, one.highest) == (0, form.levels - 1)
    if above.any():
        assert (other.lowest, other.highest) == (1 - form.levels, 0)


def test_zeros_do_not_clip_what_may_come() -> None:
    zeros = density_of(histogram_of(np.zeros(8, dtype=np.float32)))
    assert choose_quantizer(zeros, Asymmetric(), Mse()).round_trip(np.array([3.0, 200.0])).tolist() == [3, 200]


def test_steps_below_and_above_zero_get_codes_on_both_sides() -> None:
    positive = np.linspace(0, 1, 999, dtype=np.float32)
    chosen = least_error([density_of(histogram_of(values)) for values in (positive, -positive)], Asymmetric(), Mse())
    assert chosen.lowest < -100 and chosen.highest > 100
