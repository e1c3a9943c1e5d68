"""SR3's condition: the small picture, enlarged to the output size in 8 bits, before and outside of the network."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from deploy.families.pixel_unet.subject import PIXEL_VALUES
from deploy.images.resize_8_bits import Pixels, resize_region_8_bits
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from engines.arrays import Array, Float32


def condition_of_pixels(pixels: Pixels, size: Size, window: Window) -> Float32:
    """(.., 3, h, w) pixels -> one window of what they are at `size`, in network values."""
    rows, columns = (window.top, window.bottom), (window.left, window.right)
    enlarged = resize_region_8_bits(pixels, size, rows, columns)
    return np.ascontiguousarray(PIXEL_VALUES.levels[enlarged], np.float32)


def pixels_of_values(values: Float32) -> Pixels:
    """Network values in 8 bits; those that were made of 8 bits are back at their own."""
    return PIXEL_VALUES.level_from_value(values).astype(np.uint8)


@lru_cache(maxsize=64)
def doubling_tables(size: Size, levels: int) -> Mapping[str, Array]:
    """Which row and column each one of level k - 1 is of level k: half of it, rounded down.

    Where a level has an odd number, the surplus of the doubled map is dropped. There the published code fails; at
    multiples of 2^(levels - 1) this is what it does.
    """
    tables: dict[str, Array] = {}
    for axis, count in zip(("row", "column"), size, strict=True):
        finer = count
        for level in range(1, levels):
            tables[f"{axis}_index_{level}"] = np.arange(finer, dtype=np.int64) // 2
            finer = -(-finer // 2)
    return tables
