"""A factor per input channel with which all channels of a tensor fill the 8-bit codes that they share.

One step serves the whole tensor, so a channel whose values are a tenth of the largest channel's has a tenth of the
codes. Multiplied by 10 before coding it has them all, and the weights that read it are divided by 10: the layer is the
same up to rounding. With factors m, codes from L to U in a step s, and N_c the summed squares of the weights that read
channel c, rounding costs

    sum over c of (s / m_c)² N_c / 12,  where s = (U - L) / 255 and every m_c x_c must lie between L and U.

With L = -r U each m_c is as large as can be: m_c = U / max(highest_c, -lowest_c / r). What is left is the best r, one
number, sought on a grid. (After Nagel et al. 2019, arXiv 1906.04721, and SmoothQuant, Xiao et al. 2023, arXiv
2211.10438; there weights and activations share the burden. Weights with second-order rounding err 10 dB less than
activations do, so here they carry all of it.)

Example: channel 0 lies in -0.3..8, channel 1 in -0.3..0.5, both N = 1. With r = 0.0375 channel 1 needs
max(0.5, 0.3 / 0.0375 = 8) and nothing is gained: (1 + r)² (8² + 8²) = 137.8. With r = 0.12 it is
1.12² (8² + 2.5²) = 88.1, with r = 0.6 1.6² (8² + 0.5²) = 164.5. So r = 0.12 or near it, and channel 1 times 8 / 2.5.

Factors are rounded to four significant bits, which bfloat16 and float16 hold: engines that compute around int8 in these
must not change them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError

FloatArray = NDArray[np.float32]

MOST: Final = 16.0
"""Of the largest factor: where a channel is nearly always 0, its weights need codes too."""
LEAST_GAIN: Final = 0.9
"""The estimated cost with factors over that without, above which a tensor is left as it is."""

_RATIOS: Final = np.geomspace(1 / 64, 64, 97)
_BITS: Final = 4


def factors_of(lowest: FloatArray, highest: FloatArray, norms: NDArray[np.floating]) -> FloatArray | None:
    """What each channel is multiplied by, 1 to 16; None where that would gain little.

    lowest, highest: of each channel's values, (channels,). norms: the squares of the weights that read each channel,
    summed.
    """
    if not lowest.shape == highest.shape == norms.shape or lowest.ndim != 1:
        raise StatisticsError(
            f"equalising channels: extremes of shapes {lowest.shape} and {highest.shape} and weights' norms of shape"
            f" {norms.shape} do not belong to the same channels."
        )
    low, high = np.minimum(lowest, 0.0).astype(np.float64), np.maximum(highest, 0.0).astype(np.float64)
    if not (high - low > 0).any():
        return None
    needs = np.maximum(high, -low / _RATIOS[:, None])  # (ratios, channels)
    needs = np.maximum(needs, needs.max(axis=1, keepdims=True) / MOST)
    steps = (1 + _RATIOS)[:, None]
    costs = np.sum(np.square(steps * needs) * norms, axis=1)
    without = np.square(steps[:, 0] * needs.max(axis=1)) * norms.sum()
    best = int(costs.argmin())
    if costs[best] >= LEAST_GAIN * without.min():
        return None
    return _rounded(needs[best].max() / needs[best])


def _rounded(factors: NDArray[np.float64]) -> FloatArray:
    """To the nearest numbers of four significant bits."""
    mantissas, exponents = np.frexp(factors)
    scaled = np.rint(mantissas * (1 << _BITS)) / (1 << _BITS)
    rounded: FloatArray = np.ldexp(scaled, exponents).astype(np.float32)
    return rounded
