"""Histograms: hand-computed bins, and the same result for any split of the data into batches."""

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.errors import StatisticsError
from calibration.observe.statistics import (
    BINS,
    HALF_BINS,
    LOWEST_EXPONENT,
    Histogram,
    channel_extremes_of,
    exponent_for,
    histogram_of,
    merge_extremes,
    merge_histograms,
    widen,
)

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
BATCHES = st.lists(st.lists(FLOATS, min_size=1, max_size=12), min_size=1, max_size=6)


def same(first: Histogram, second: Histogram) -> bool:
    return (
        first.exponent == second.exponent
        and first.minimum == second.minimum
        and first.maximum == second.maximum
        and np.array_equal(first.counts, second.counts)
    )


def test_values_lie_in_the_bins_of_hand_arithmetic() -> None:
    # The largest, 3.9, needs 2048 bins from 0 to 4: width 2^-9. 0.5 is bin 256, -1 is bin -512.
    histogram = histogram_of(np.array([-1.0, 0.5, 3.9], dtype=np.float32))
    assert histogram.exponent == -9
    assert histogram.bin_width == 2**-9
    assert np.flatnonzero(histogram.counts).tolist() == [HALF_BINS - 512, HALF_BINS + 256, HALF_BINS + 1996]
    assert (histogram.count, histogram.minimum, histogram.maximum) == (3, -1.0, float(np.float32(3.9)))
    assert histogram.largest == histogram.maximum


@pytest.mark.parametrize(
    ("minimum", "maximum", "exponent"),
    [
        (0.0, 2047.0, 0),
        (0.0, 2048.0, 1),  # the upper edge is outside
        (-2048.0, 0.0, 0),  # the lower edge is inside
        (-2049.0, 0.0, 1),
        (0.0, 0.0, LOWEST_EXPONENT),
        (3.0, 5.0, -8),  # one-sided: the grid is around zero all the same
    ],
)
def test_the_bins_are_the_narrowest_that_hold_the_extremes(minimum: float, maximum: float, exponent: int) -> None:
    assert exponent_for(minimum, maximum) == exponent


@given(BATCHES, st.randoms(use_true_random=False))
def test_any_split_into_batches_in_any_order_gives_the_same(batches: list[list[float]], order: object) -> None:
    whole = histogram_of(np.concatenate([np.array(batch, dtype=np.float32) for batch in batches]))
    parts = [histogram_of(np.array(batch, dtype=np.float32)) for batch in batches]
    order.shuffle(parts)  # type: ignore[attr-defined]
    assert same(reduce(merge_histograms, parts), whole)


@given(st.lists(FLOATS, min_size=1, max_size=30))
def test_every_value_is_counted_in_its_bin(values: list[float]) -> None:
    """Against exact integer arithmetic on the fractions that floats are."""
    array = np.array(values, dtype=np.float32)
    histogram = histogram_of(array)
    expected = np.zeros(BINS, dtype=np.int64)
    for value in array.tolist():
        numerator, denominator = value.as_integer_ratio()
        power = histogram.exponent
        bin_index = (numerator << max(-power, 0)) // (denominator << max(power, 0))
        expected[bin_index + HALF_BINS] += 1
    assert np.array_equal(histogram.counts, expected)


def test_large_tensors_are_counted_chunk_by_chunk() -> None:
    values = np.random.default_rng(0).standard_normal((3, 5, 101, 77)).astype(np.float32)
    histogram = histogram_of(values)
    edges = (np.arange(BINS + 1) - HALF_BINS) * histogram.bin_width
    assert np.array_equal(histogram.counts, np.histogram(values.astype(np.float64), bins=edges)[0])


def test_widening_adds_neighbours_around_zero() -> None:
    bins = np.zeros(BINS, dtype=np.int64)
    bins[HALF_BINS - 3 : HALF_BINS + 4] = [1, 2, 3, 4, 5, 6, 7]  # bins -3 .. 3
    widened = widen(bins, 1)
    assert widened[HALF_BINS - 2 : HALF_BINS + 2].tolist() == [1, 5, 9, 13]
    assert widen(bins, 500)[HALF_BINS - 1 : HALF_BINS + 1].tolist() == [6, 22]


def test_channels_keep_their_extremes_in_any_split() -> None:
    values = np.random.default_rng(1).standard_normal((4, 3, 5, 2)).astype(np.float32)
    whole = channel_extremes_of(values)
    merged = merge_extremes(channel_extremes_of(values[:1]), channel_extremes_of(values[1:]))
    assert np.array_equal(whole.minimum, merged.minimum)
    assert np.array_equal(whole.maximum, merged.maximum)
    assert whole.maximum[2] == values[:, 2].max()
    assert channel_extremes_of(values, axis=-1).minimum.shape == (2,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    values = np.array([[1.0, bad, bad]], dtype=np.float32)
    with pytest.raises(StatisticsError, match="2 of 3 are not finite"):
        histogram_of(values)
    with pytest.raises(StatisticsError, match="extremes of each channel: some values are not finite"):
        channel_extremes_of(values)


def test_tensors_without_values_are_refused() -> None:
    with pytest.raises(StatisticsError, match="it has none"):
        histogram_of(np.zeros((2, 0), dtype=np.float32))
    with pytest.raises(StatisticsError, match=r"shape \(2, 0\) has no values"):
        channel_extremes_of(np.zeros((2, 0), dtype=np.float32))


def test_extremes_of_different_tensors_do_not_merge() -> None:
    first: NDArray[np.float32] = np.zeros((1, 3), dtype=np.float32)
    with pytest.raises(StatisticsError, match="3 channels against 4"):
        merge_extremes(channel_extremes_of(first), channel_extremes_of(np.zeros((1, 4), dtype=np.float32)))
