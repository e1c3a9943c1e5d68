import numpy as np
import pytest

from calibration.choose.equalisation import MOST, factors_of
from calibration.errors import StatisticsError


def row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def cost(low: np.ndarray, high: np.ndarray, norms: np.ndarray, factors: np.ndarray) -> float:
    """What rounding to steps of (U - L) / 255 costs, as in the module's formula, times 12 * 255²."""
    whole = max((high * factors).max(), 0) - min((low * factors).min(), 0)
    return float(np.sum((whole / factors) ** 2 * norms))


def test_the_example_of_the_docstring() -> None:
    low, high, norms = row(-0.3, -0.3), row(8, 0.5), row(1, 1)
    factors = factors_of(low, high, norms)
    assert factors is not None
    assert factors[0] == 1 and factors[1] == pytest.approx(8 / 2.5, rel=0.1)
    assert cost(low, high, norms, factors) == pytest.approx(88.1, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_factors_cost_less(seed: int) -> None:
    """Against a random search around and far from what was found; the rounding to four bits may cost 6 % a side."""
    rng = np.random.default_rng(seed)
    channels = 3
    low, high = -rng.uniform(0, 1, channels).astype(np.float32), rng.uniform(0.2, 6, channels).astype(np.float32)
    norms = rng.uniform(0.1, 2, channels)
    found = factors_of(low, high, norms)
    factors = np.ones(channels) if found is None else found
    tried = np.exp(rng.uniform(0, np.log(MOST), (20000, channels)))
    least = min(cost(low, high, norms, one / one.min()) for one in tried)
    assert cost(low, high, norms, factors) <= least / (0.9 if found is None else 1) * 1.13


def test_equal_channels_are_left_alone() -> None:
    assert factors_of(row(-1, -1.02), row(2, 2), row(1, 3)) is None
    assert factors_of(row(0, 0), row(0, 0), row(1, 1)) is None


def test_channels_that_nothing_reads_do_not_count() -> None:
    """All weight lies on the small channel; the large one would be made small, but no factor is below 1."""
    factors = factors_of(row(0, 0), row(1, 100), row(1, 0))
    assert factors is not None and factors.tolist() == [MOST, 1.0]


def test_factors_have_four_bits_and_an_end() -> None:
    rng = np.random.default_rng(0)
    factors = factors_of(
        -rng.uniform(0, 3, 64).astype(np.float32), 10 ** rng.uniform(-3, 1, 64).astype(np.float32), np.ones(64)
    )
    assert factors is not None
    assert factors.min() == 1.0 and factors.max() <= MOST
    mantissas = np.frexp(factors)[0] * 16
    assert (mantissas == np.rint(mantissas)).all()


def test_channels_must_be_the_same() -> None:
    with pytest.raises(StatisticsError, match=r"equalising channels: extremes of shapes \(2,\) and \(2,\).*\(3,\)"):
        factors_of(row(0, 0), row(1, 1), row(1, 1, 1))
