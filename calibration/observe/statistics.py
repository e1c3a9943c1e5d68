"""What the values of a tensor looked like: exact extremes and a full histogram, the same for any split into batches.

Two pieces. `histogram_of` and `channel_extremes_of` reduce one recorded tensor; `merge_histograms` and
`merge_extremes` put two reductions together. Every value is counted, the tails too, which quality needs:
docs/measurements.md, tails of histograms.

Why the order of batches cannot matter: the edges of the bins are the integer multiples of 2^k, and k is the
smallest integer for which 4096 bins around zero hold both extremes. So k depends on the extremes alone. A value x
lies in bin floor(x / 2^k), which float32 computes exactly, and floor(floor(x / 2^k) / 2) = floor(x / 2^(k+1)):
when the range grows, adding neighbouring bins in pairs gives what counting anew would have given.

Example with 8 bins instead of 4096: the values -1, 0.5 and 3.9 have k = 0 (bins of width 1 from -4 to 4) and lie in
bins -1, 0 and 3. When 5 arrives, k becomes 1 (width 2 from -8 to 8) and the four values lie in bins -1, 0, 1 and 2.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError
from engines.arrays import Float32

HALF_BINS: Final = 2048
"""Bins on each side of zero: a one-sided tensor has 4 to 8 bins for each of its 256 codes."""
BINS: Final = 2 * HALF_BINS
LOWEST_EXPONENT: Final = -60
"""Bins are never narrower than 2^-60; the values of a tensor that is zero throughout need some width."""

_LOG2_HALF_BINS: Final = HALF_BINS.bit_length() - 1
_CHUNK: Final = 1 << 15  # indices (256 KB) and scaled values (128 KB) of a chunk stay in a core's cache

Counts = NDArray[np.int64]
Values = NDArray[np.floating]
T = TypeVar("T", np.int64, np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """How often each value occurred: bin i of `counts` holds (i - 2048)·2^exponent <= x < (i - 2047)·2^exponent."""

    exponent: int
    counts: Counts
    minimum: float
    maximum: float

    @property
    def count(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(abs(self.minimum), abs(self.maximum))

    @property
    def bin_width(self) -> float:
        """The width of one bin, a power of two."""
        return math.ldexp(1.0, self.exponent)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelExtremes:
    """The smallest and the largest value of each channel, float32 of shape (channels,)."""

    minimum: Float32
    maximum: Float32


def histogram_of(values: Values) -> Histogram:
    """The histogram of all values of one tensor of any shape, taken as float32; they must be finite."""
    flat = np.asarray(values, dtype=np.float32).reshape(-1)
    if flat.size == 0:
        raise StatisticsError("counting the values of a tensor: it has none; at least one was expected.")
    minimum, maximum = float(flat.min()), float(flat.max())
    if not (math.isfinite(minimum) and math.isfinite(maximum)):
        raise StatisticsError(
            f"counting the values of a tensor: {np.count_nonzero(~np.isfinite(flat))} of {flat.size} are not finite;"
            " run the float graph on the same inputs to see where they arise."
        )
    exponent = exponent_for(minimum, maximum)
    counts = _count(flat, exponent)
    return Histogram(exponent=exponent, counts=counts, minimum=minimum, maximum=maximum)


def exponent_for(minimum: float, maximum: float) -> int:
    """The smallest k (at least -60) with -2048·2^k <= minimum and maximum < 2048·2^k."""
    exponent = LOWEST_EXPONENT
    if maximum > 0:
        exponent = max(exponent, math.frexp(maximum)[1] - _LOG2_HALF_BINS)
    if minimum < 0:
        mantissa, power = math.frexp(-minimum)
        # The lower edge belongs to its bin, so -2^p fits where 2^p does not.
        exponent = max(exponent, power - _LOG2_HALF_BINS - (mantissa == 0.5))
    return exponent


def _count(flat: Float32, exponent: int) -> Counts:
    factor = np.float32(math.ldexp(1.0, -exponent))
    counts = np.zeros(BINS, dtype=np.int64)
    scaled = np.empty(min(_CHUNK, flat.size), dtype=np.float32)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        part = scaled[: chunk.size]
        np.multiply(chunk, factor, out=part)
        np.floor(part, out=part)
        part += np.float32(HALF_BINS)  # exact only now that the values are integers
        counts += np.bincount(part.astype(np.intp), minlength=BINS)
    if exponent > 0:
        # A tiny negative value times a small factor may become -0, whose floor is not -1.
        lost = np.count_nonzero(flat < 0) - int(counts[:HALF_BINS].sum())
        counts[HALF_BINS] -= lost
        counts[HALF_BINS - 1] += lost
    return counts


def merge_histograms(first: Histogram, second: Histogram) -> Histogram:
    """The histogram of the values of both, exactly as if they had been counted together."""
    exponent = max(first.exponent, second.exponent)
    return Histogram(
        exponent=exponent,
        counts=widen(first.counts, exponent - first.exponent) + widen(second.counts, exponent - second.exponent),
        minimum=min(first.minimum, second.minimum),
        maximum=max(first.maximum, second.maximum),
    )


def widen(bins: NDArray[T], doublings: int) -> NDArray[T]:
    """The counts of 4096 bins, put into 4096 bins around the same zero that are 2^doublings times as wide."""
    if doublings == 0:
        return bins
    doublings = min(doublings, _LOG2_HALF_BINS)  # from there on each side is one bin
    narrowed = bins.reshape(-1, 1 << doublings).sum(axis=1, dtype=bins.dtype)
    widened = np.zeros_like(bins)
    start = HALF_BINS - narrowed.size // 2
    widened[start : start + narrowed.size] = narrowed
    return widened


def channel_extremes_of(values: Values, axis: int = 1) -> ChannelExtremes:
    """The smallest and the largest value of each channel of one tensor; `axis` is that of the channels."""
    array = np.asarray(values, dtype=np.float32)
    if array.size == 0:
        raise StatisticsError(f"taking the extremes of each channel: a tensor of shape {array.shape} has no values.")
    others = tuple(k for k in range(array.ndim) if k != axis % array.ndim)
    extremes = ChannelExtremes(minimum=array.min(axis=others), maximum=array.max(axis=others))
    if not (np.isfinite(extremes.minimum).all() and np.isfinite(extremes.maximum).all()):
        raise StatisticsError("taking the extremes of each channel: some values are not finite.")
    return extremes


def merge_extremes(first: ChannelExtremes, second: ChannelExtremes) -> ChannelExtremes:
    """The extremes over the values of both; they must have the same channels."""
    if first.minimum.shape != second.minimum.shape:
        raise StatisticsError(
            f"merging the extremes of channels: {first.minimum.size} channels against {second.minimum.size};"
            " both must come from the same tensor."
        )
    return ChannelExtremes(
        minimum=np.minimum(first.minimum, second.minimum), maximum=np.maximum(first.maximum, second.maximum)
    )
