"""sRGB's curve between values as files hold them and light, going on beyond 0 and 1 (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def linear_from_srgb(values: Floats) -> Floats:
    """Light of encoded values; negative ones mirrored, as scRGB does."""
    size = np.abs(values)
    light = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(light, values).astype(values.dtype)


def srgb_from_linear(light: Floats) -> Floats:
    """Encoded values of light; negative ones mirrored."""
    size = np.abs(light)
    values = np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(values, light).astype(light.dtype)
