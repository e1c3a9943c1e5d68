import numpy as np
import pytest

from calibration.choose.clipping import Method, MinMax, Mse, Percentile, choose_quantizer, expected_error, scale_grid
from calibration.choose.common_window import choose_common_window, with_short_ratios
from calibration.choose.density import Density, density_of
from calibration.choose.quantizer import Asymmetric, Quantizer, Symmetric
from calibration.errors import StatisticsError
from calibration.observe.statistics import histogram_of

COARSE = Mse(fineness=2, octaves=2)


def after_silu(spread: float, seed: int = 0) -> Density:
    x = np.random.default_rng(seed).standard_normal(4000) * spread
    return density_of(histogram_of((x / (1 + np.exp(-x))).astype(np.float32)))


RANGES = [after_silu(1.0), after_silu(3.0, 1), after_silu(0.5, 2)]


def test_least_error_by_brute_force() -> None:
    """Every window of 256 codes, each range with its best scale on the same grid."""
    best = np.inf
    for lowest in range(-255, 1):
        cost = 0.0
        for density in RANGES:
            errors = [
                expected_error(density, Quantizer(scale=scale, lowest=lowest, highest=lowest + 255))
                for scale in scale_grid([density], Asymmetric(), COARSE)
            ]
            cost += min(errors)
        best = min(best, cost)
    found = choose_common_window(RANGES, Asymmetric(), COARSE)
    assert len({(q.lowest, q.highest) for q in found}) == 1
    costs = [expected_error(density, quantizer) for density, quantizer in zip(RANGES, found, strict=True)]
    assert sum(costs) == pytest.approx(best, rel=1e-3)  # ratios of scales are rounded


@pytest.mark.parametrize("method", [MinMax(), Mse(), Percentile(percent=99.9)], ids=str)
def test_one_density_gets_what_it_would_alone(method: Method) -> None:
    (found,) = choose_common_window(RANGES[:1], Asymmetric(), method)
    alone = choose_quantizer(RANGES[0], Asymmetric(), method)
    assert (found.lowest, found.scale) == (alone.lowest, pytest.approx(alone.scale))


def test_min_max_clips_nothing_in_any_range() -> None:
    found = choose_common_window(RANGES, Asymmetric(), MinMax())
    for density, quantizer in zip(RANGES, found, strict=True):
        half = quantizer.scale / 2
        assert quantizer.scale * quantizer.lowest - half <= density.minimum
        assert quantizer.scale * quantizer.highest + half >= density.maximum
    assert len({q.scale for q in found}) == 2  # the first and the last differ by less than ratios are rounded


def test_symmetric_ranges_are_independent() -> None:
    found = choose_common_window(RANGES, Symmetric(), Mse())
    alone = tuple(choose_quantizer(density, Symmetric(), Mse()) for density in RANGES)
    assert found == with_short_ratios(alone)


def test_a_range_of_zeros_keeps_some_scale() -> None:
    zeros = density_of(histogram_of(np.zeros(10, dtype=np.float32)))
    positive = density_of(histogram_of(np.linspace(0, 1, 100, dtype=np.float32)))
    assert all(q.scale > 0 for q in choose_common_window([zeros, positive], Asymmetric(), MinMax()))


def test_no_density_is_refused() -> None:
    with pytest.raises(StatisticsError, match="choosing a common window: no density was given"):
        choose_common_window([], Asymmetric(), Mse())


@pytest.mark.parametrize("method", [MinMax(), Mse(), Percentile(percent=99.9)], ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_ranges_on_one_side_of_zero_get_all_codes_there(method: Method, sign: int) -> None:
    """The second range is clipped nowhere and the third is zero throughout: neither prefers a window by itself."""
    rng = np.random.default_rng(3)
    ranges = [np.maximum(rng.standard_normal(4000), 0), np.linspace(0, 0.3, 64), np.zeros(9)]
    densities = [density_of(histogram_of((sign * values).astype(np.float32))) for values in ranges]
    found = choose_common_window(densities, Asymmetric(), method)
    assert {quantizer.lowest for quantizer in found} == {0 if sign > 0 else -255}


def test_a_range_of_zeros_clips_no_more_than_the_widest_of_the_others() -> None:
    zeros = density_of(histogram_of(np.zeros(10, dtype=np.float32)))
    found = choose_common_window([zeros, *RANGES], Asymmetric(), Mse())
    assert found[0].scale == max(quantizer.scale for quantizer in found[1:])
    assert {q.scale for q in choose_common_window([zeros, zeros], Asymmetric(), Mse())} == {1.0}


@pytest.mark.parametrize("method", [MinMax(), Mse(), Percentile(percent=99.9)], ids=str)
def test_ratios_of_scales_are_bfloat16_numbers(method: Method) -> None:
    """So in float32, whose upper half bfloat16 is: what is left are the roundings of two scales."""
    first, *others = choose_common_window([*RANGES, after_silu(0.04, 3)], Asymmetric(), method)
    for other in others:
        ratio = np.float32(first.scale / other.scale)
        bits = int((ratio * np.float32(1 + 2**-21)).view(np.uint32)) & 0xFFFF0000
        assert np.array(bits, np.uint32).view(np.float32) == pytest.approx(ratio, rel=2**-21)


def test_rounding_ratios_grows_scales_by_less_than_a_hundredth_and_once_only() -> None:
    rng = np.random.default_rng(0)
    given = [Quantizer(scale=scale, lowest=-7, highest=248) for scale in 2.0 ** rng.uniform(-9, 9, 50)]
    once = with_short_ratios(given)
    growth = [new.scale / old.scale for new, old in zip(once, given, strict=True)]
    assert growth[0] == 1 and min(growth) > 1 - 1e-6 and max(growth) < 1.008
    assert np.allclose([q.scale for q in with_short_ratios(once)], [q.scale for q in once], rtol=1e-6, atol=0)
