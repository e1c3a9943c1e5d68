"""sRGB's curve between values as files hold them and light, going on beyond 0 and 1 (IEC 61966-2-1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

_AT_ONCE = 1 << 20
"""Values whose intermediate results are kept at the same time."""


def linear_from_srgb(values: Floats) -> Floats:
    """Light of encoded values; negative ones mirrored, as scRGB does."""
    return _in_parts(values, lambda size: np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4))


def srgb_from_linear(light: Floats) -> Floats:
    """Encoded values of light; negative ones mirrored."""
    return _in_parts(light, lambda size: np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055))


def _in_parts(values: Floats, curve: Callable[[Floats], Floats]) -> Floats:
    """The curve of all values, odd about zero, of the kind that they are."""
    result = np.empty(values.shape, values.dtype)
    rows = max(1, _AT_ONCE * len(values) // max(values.size, 1)) if values.ndim else 1
    for top in range(0, len(values) if values.ndim else 1, rows):
        part = values[top : top + rows] if values.ndim else values
        target = result[top : top + rows] if values.ndim else result
        target[...] = np.copysign(curve(np.abs(part)), part)
    return result
