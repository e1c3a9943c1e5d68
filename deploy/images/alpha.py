"""Transparency: colours under it that a network can see, and alpha at a larger size.

A network sees opaque pictures. Where a picture is transparent its file often holds black or anything, which would bleed
into the edge. There the colours around are spread out instead, each weighted by its alpha and mixed as light: what is
known as premultiplied. Alpha itself is made by the network too, as a grey picture, or by bicubic: within the values
around each pixel, so that it neither rings nor leaves a haze where there was none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.transfer import linear_from_srgb, srgb_from_linear
from engines.arrays import Float32

_TRUSTED_FROM = 1.0 / 16.0
"""Alpha from which a pixel keeps its own colour: files of 8 bits that were premultiplied once hold rubbish below."""
_SAME = 2e-6
"""Colours that differ by no more are the same: what float32 makes of spreading them, a seventh of a step of 16 bits."""
_ROWS_AT_A_TIME = 64


def spread_colours(srgb: Float32, alpha: Float32) -> Float32:
    """Colours (H, W, 3), encoded sRGB, with those of transparent pixels made of their opaque surroundings.

    alpha: (H, W), 0 to 1. Pyramids: weighted means of 2x2 pixels, again and again, fill from coarse to fine.
    """
    trust = np.minimum(alpha / np.float32(_TRUSTED_FROM), 1.0)
    light = linear_from_srgb(srgb)
    light *= trust[:, :, None]
    levels = [(light, trust)]
    # What is hardly seen spreads least: the weight is alpha, and below a sixteenth of it less.
    coarse, share = light * alpha[:, :, None], trust * alpha
    while max(share.shape) > 1:
        coarse, share = _halved(coarse), _halved(share)
        levels.append((coarse, share))
    if not share.any():
        return np.zeros_like(srgb)  # nothing is visible at all
    filled = levels[-1][0] / np.maximum(levels[-1][1], 1e-12)[:, :, None]
    for weighted, weight in reversed(levels[:-1]):
        filled = _laid_over(weighted, weight, filled)
    return srgb_from_linear(filled)


def _laid_over(weighted: Float32, weight: Float32, filled: Float32) -> Float32:
    """Colours that are multiplied with their weight, over others of half the size, which fill the rest."""
    size = Size.of(weight)
    # Bicubic overshoots; a mean of neighbours does not.
    lowest, highest = filled.min(axis=(0, 1)), filled.max(axis=(0, 1))
    planes = np.ascontiguousarray(filled.transpose(2, 0, 1))
    result = np.empty_like(weighted)
    for top in range(0, size.height, _ROWS_AT_A_TIME):
        rows = slice(top, min(top + _ROWS_AT_A_TIME, size.height))
        below = resize_region(planes, size, (rows.start, rows.stop), (0, size.width)).transpose(1, 2, 0)
        result[rows] = weighted[rows] + (1.0 - weight[rows])[:, :, None] * np.clip(below, lowest, highest)
    return result


def alpha_rows(alpha: Float32, size: Size, rows: tuple[int, int], made: Float32 | None = None) -> Float32:
    """Rows (half-open) of alpha (h, w) enlarged to `size`, (rows, width), 0 to 1.

    made: these rows as a network made them, to be kept within the values around; None: by bicubic.
    """
    enlarged = resize_region(alpha[None], size, rows, (0, size.width))[0] if made is None else made
    down, across = nearest_pixels(Size.of(alpha), size, rows)
    top, bottom = max(int(down[0]) - 1, 0), min(int(down[-1]) + 2, alpha.shape[0])
    part = alpha[top:bottom]
    lowest, highest = _around(part, np.minimum), _around(part, np.maximum)
    near = np.ix_(down - top, across)
    return np.asarray(np.clip(enlarged, lowest[near], highest[near]), np.float32)


def nearest_pixels(lr: Size, size: Size, rows: tuple[int, int]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The rows and columns of a picture of `lr` pixels that rows (half-open) of a larger one and all its columns lie
    in."""
    down = np.minimum((np.arange(*rows) * lr.height) // size.height, lr.height - 1)
    return down, np.minimum((np.arange(size.width) * lr.width) // size.width, lr.width - 1)


def flat_places(colours: Float32) -> NDArray[np.bool_]:
    """Where (H, W) colours (H, W, 3) are the same in all pixels up to two away: there is nothing to enlarge.

    Cut-outs are often drawn, and what is spread under their edges is flat more often still. A network is trained on
    photographs, and makes a texture of its own there.
    """
    flat = np.ones(colours.shape[:2], np.bool_)
    for channel in np.moveaxis(colours, -1, 0):
        highest, lowest = (_around(_around(channel, extreme), extreme) for extreme in (np.maximum, np.minimum))
        flat &= highest - lowest <= _SAME
    return flat


def _halved(values: Float32) -> Float32:
    """Means of 2x2; an odd row or column at the end counts twice."""
    pads = [(0, size % 2) for size in values.shape[:2]] + [(0, 0)] * (values.ndim - 2)
    even = np.pad(values, pads, mode="edge")
    return ((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4).astype(np.float32)


def _around(values: Float32, extreme: np.ufunc) -> Float32:
    """The least or greatest of each pixel and its eight neighbours."""
    padded = np.pad(values, 1, mode="edge")
    rows = extreme(extreme(padded[:-2], padded[1:-1]), padded[2:])
    return np.asarray(extreme(extreme(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:]), np.float32)
