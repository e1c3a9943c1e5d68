"""A histogram as a piecewise constant density, whose moments over any interval are known in closed form.

Clipping and the partition ask for integrals of (x - q)² over intervals that do not end at bin edges. Within a bin
the values are taken as evenly spread, the only approximation made; a bin is at most a fourth of a quantization step
unless the scale clips more than half of the range away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError
from calibration.observe.statistics import BINS, HALF_BINS, Histogram, widen

FloatArray = NDArray[np.float64]

EDGES: FloatArray = np.arange(-HALF_BINS, HALF_BINS + 1, dtype=np.float64)
"""The edges of the bins in units of their width."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Density:
    """Mass per bin of width 2^exponent around zero, and the extremes of what was counted.

    `mass` is float64 of shape (4096,); its sum is 1 for the density of one histogram.
    """

    exponent: int
    mass: FloatArray
    minimum: float
    maximum: float

    @property
    def bin_width(self) -> float:
        """The width of one bin, a power of two."""
        return math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> float:
        """The sum of all masses."""
        return float(self.mass.sum())

    @property
    def power(self) -> float:
        """The mean of x² per unit of mass."""
        return float(self._moments[2, -1]) * self.bin_width**2 / self.total

    @cached_property
    def _moments(self) -> FloatArray:
        """Integrals of 1, t and t² from the left end to each edge, with t = x / bin width; shape (3, 4097)."""
        moments = np.zeros((3, BINS + 1))
        for power in range(3):
            grown = EDGES ** (power + 1)
            np.cumsum(self.mass * (grown[1:] - grown[:-1]) / (power + 1), out=moments[power, 1:])
        return moments

    def moments_below(self, borders: FloatArray) -> FloatArray:
        """Integrals of 1, x and x² over all values below each border; the shape of `borders` after an axis of 3."""
        t = np.clip(borders / self.bin_width, -HALF_BINS, HALF_BINS)
        bins = np.minimum(np.floor(t).astype(np.intp) + HALF_BINS, BINS - 1)
        edge, mass = EDGES[bins], self.mass[bins]
        below = self._moments[:, bins]
        below[0] += mass * (t - edge)
        below[1] += mass * (t * t - edge * edge) / 2
        below[2] += mass * (t * t * t - edge * edge * edge) / 3
        below[1] *= self.bin_width
        below[2] *= self.bin_width**2
        return below

    def quantile(self, fraction: float) -> float:
        """The value below which this fraction of the mass lies."""
        cumulative = self._moments[0]
        value = float(np.interp(fraction * cumulative[-1], cumulative, EDGES)) * self.bin_width
        return min(max(value, self.minimum), self.maximum)


def density_of(histogram: Histogram) -> Density:
    """The density of one histogram, of mass 1."""
    return Density(
        exponent=histogram.exponent,
        mass=histogram.counts / histogram.count,
        minimum=histogram.minimum,
        maximum=histogram.maximum,
    )


def mixture_of(densities: Sequence[Density], weights: Sequence[float] | FloatArray | None = None) -> Density:
    """The weighted sum of densities on the widest of their bins; without weights each counts as it is."""
    if not densities:
        raise StatisticsError("mixing densities: none was given; at least one is needed.")
    exponent = max(density.exponent for density in densities)
    mass = np.zeros(BINS)
    for density, weight in zip(densities, np.ones(len(densities)) if weights is None else weights, strict=True):
        mass += weight * widen(density.mass, exponent - density.exponent)
    return Density(
        exponent=exponent,
        mass=mass,
        minimum=min(density.minimum for density in densities),
        maximum=max(density.maximum for density in densities),
    )
