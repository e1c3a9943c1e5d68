"""Bicubic resizing in whole 8-bit levels, as Pillow does it, for networks that were trained on such pictures.

The filter is that of `deploy.images.resize`; the arithmetic is Pillow's: weights are whole multiples of 2^-22, columns
are resized before rows, and after each of the two passes every value is rounded to a level from 0 to 255. So overshoots
are cut between the passes: beside an edge the result is up to 28 levels away from the unrounded filter's. Where the
height shrinks, Pillow may take rows first, which is not followed here: such networks enlarge.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deploy.images.resize import Span, reaches

Pixels = NDArray[np.uint8]

BITS = 22
"""Of the weights, below the point."""
RUN = 64
"""Outputs per matrix; products and sums are whole numbers below 2^53, so float64 holds them exactly."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A run of outputs along an axis: outputs[outputs) = weights @ inputs[inputs) / 2^22, rounded."""

    outputs: Span
    inputs: Span
    weights: NDArray[np.float64]


def resize_region_8_bits(pixels: Pixels, size: tuple[int, int], rows: Span, columns: Span) -> Pixels:
    """Rows and columns (half-open) of the 8-bit picture (.., H, W) at `size` = (height, width), as Pillow has them."""
    for name, (start, stop), length in (("rows", rows, size[0]), ("columns", columns, size[1])):
        if not 0 <= start < stop <= length:
            raise ValueError(f"resizing a region: {name} [{start}, {stop}) are not within 0 to {length}")
    height, width = pixels.shape[-2:]
    firsts, lasts = reaches(height, size[0])
    top, bottom = int(firsts[rows[0]]), int(lasts[rows[1] - 1])
    wide = _resized(pixels[..., top:bottom, :], width, size[1], columns, 0)
    tall = _resized(np.swapaxes(wide, -1, -2), height, size[0], rows, top)
    return np.ascontiguousarray(np.swapaxes(tall, -1, -2))


def _resized(pixels: Pixels, n_in: int, n_out: int, span: Span, first: int) -> Pixels:
    """The last axis, of which `pixels` has what lies from `first` on, resized to the outputs in `span`."""
    result = np.empty((*pixels.shape[:-1], span[1] - span[0]), np.uint8)
    for run in _runs(n_in, n_out)[span[0] // RUN : (span[1] - 1) // RUN + 1]:
        start, stop = max(run.outputs[0], span[0]), min(run.outputs[1], span[1])
        weights = run.weights[start - run.outputs[0] : stop - run.outputs[0]]
        used = np.flatnonzero(weights.any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        read = pixels[..., run.inputs[0] + low - first : run.inputs[0] + high - first].astype(np.float64)
        sums = np.floor((read @ weights[:, low:high].T + (1 << (BITS - 1))) / (1 << BITS))
        result[..., start - span[0] : stop - span[0]] = np.clip(sums, 0, 255)
    return result


@lru_cache(maxsize=64)
def _runs(n_in: int, n_out: int) -> tuple[_Run, ...]:
    """The runs that resize an axis of n_in pixels to n_out."""
    step = n_in / n_out
    stretch = max(step, 1.0)
    firsts, lasts = reaches(n_in, n_out)
    runs = []
    for start in range(0, n_out, RUN):
        stop = min(start + RUN, n_out)
        low, high = int(firsts[start]), int(lasts[stop - 1])
        pixel = np.arange(low, high)
        centre = (np.arange(start, stop) + 0.5)[:, None] * step
        inside = (pixel >= firsts[start:stop, None]) & (pixel < lasts[start:stop, None])
        weights = np.where(inside, _cubic(np.abs((pixel - centre + 0.5) * (1.0 / stretch))), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        whole = np.trunc(weights * (1 << BITS) + np.copysign(0.5, weights))  # half away from zero
        whole.setflags(write=False)
        runs.append(_Run(outputs=(start, stop), inputs=(low, high), weights=whole))
    return tuple(runs)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel, a = -1/2, with its products in Pillow's order."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = -0.5 * (((distance - 5.0) * distance + 8.0) * distance - 4.0)
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))
