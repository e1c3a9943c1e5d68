"""Densities: moments by hand and against integration of the same steps; mixtures."""

import numpy as np
import pytest

from calibration.choose.density import Density, density_of, mixture_of
from calibration.errors import StatisticsError
from calibration.observe.statistics import BINS, HALF_BINS, histogram_of


def even_density(low_bin: int, high_bin: int, exponent: int) -> Density:
    """Mass 1 spread evenly over bins low_bin .. high_bin - 1."""
    mass = np.zeros(BINS)
    mass[HALF_BINS + low_bin : HALF_BINS + high_bin] = 1 / (high_bin - low_bin)
    width = 2.0**exponent
    return Density(exponent=exponent, mass=mass, minimum=low_bin * width, maximum=high_bin * width)


def test_moments_of_an_even_density() -> None:
    # Evenly on [-1, 3): P(x < b) = (b + 1)/4, integral of x: (b² - 1)/8, of x²: (b³ + 1)/12.
    density = even_density(-512, 1536, exponent=-9)
    borders = np.array([-5.0, -1.0, 0.12345, 2.0, 3.0, np.inf])
    b = np.clip(borders, -1, 3)
    expected = np.stack([(b + 1) / 4, (b**2 - 1) / 8, (b**3 + 1) / 12])
    assert density.moments_below(borders) == pytest.approx(expected, abs=1e-12)
    assert density.power == pytest.approx(28 / 12)
    assert density.quantile(0.25) == pytest.approx(0.0, abs=1e-12)


def test_the_density_of_samples_has_their_moments() -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    density = density_of(histogram_of(values))
    assert density.total == pytest.approx(1)
    assert density.power == pytest.approx(np.mean(values.astype(np.float64) ** 2), rel=1e-4)  # evenly spread in bins
    assert density.quantile(0.9) == pytest.approx(np.quantile(values, 0.9), abs=2 * density.bin_width)
    assert density.quantile(1.0) == values.max()


def test_a_mixture_takes_the_widest_bins_and_weighs() -> None:
    narrow, wide = even_density(0, 4, exponent=-3), even_density(-2, 2, exponent=-2)
    mixture = mixture_of([narrow, wide], [1.0, 2.0])
    assert mixture.exponent == -2
    assert mixture.mass[HALF_BINS - 2 : HALF_BINS + 2].tolist() == [0.5, 0.5, 1.0, 1.0]
    assert (mixture.minimum, mixture.maximum, mixture.total) == (-0.5, 0.5, 3.0)
    assert mixture_of([narrow, wide]).total == 2.0


def test_mixing_nothing_is_refused() -> None:
    with pytest.raises(StatisticsError, match="none was given"):
        mixture_of([])
