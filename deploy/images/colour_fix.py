"""Colours that drift while a network works, drawn back to the input's, row by row in bounded memory.

Both ways add low frequencies of what the input has and the result lacks, in light rather than in encoded values, so
that mean brightness is meant. They differ in what is low:

    lowfreq   what is left of the difference on the input's own grid after a blur over about two of its pixels
    wavelet   what five levels of a B-spline wavelet leave of the difference at the output's size (Wang et al. 2023,
              "Exploiting Diffusion Prior for Real-World Image Super-Resolution", 3.3, with their filter)

A row can be corrected only when some rows below it are known: that many are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError
from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.transfer import linear_from_srgb, srgb_from_linear
from engines.arrays import Float32

WAYS = ("none", "lowfreq", "wavelet")
DEFAULT_COLOR_FIX = "none"
_BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_REACH = 2
"""Input pixels on each side that the blur sees."""
_LEVELS = 5
_HALO = 2**_LEVELS - 1
"""Output pixels on each side that the wavelet sees."""


def check_way(way: str) -> None:
    """It is one of WAYS."""
    if way not in WAYS:
        raise ImageError(f"`color_fix` is one of {', '.join(WAYS)}, found {way!r}.")


def fixed_rows(way: str, rows: Iterator[Float32], lr: Float32, size: Size) -> Iterator[Float32]:
    """The rows again, blocks (rows, W, 3) of encoded sRGB from top to bottom, with the input's colours.

    lr: the input (h, w, 3), encoded sRGB. size: of all rows.
    """
    if way == "none":
        return rows
    light = linear_from_srgb(lr).transpose(2, 0, 1)
    return _lowfreq(rows, light, size) if way == "lowfreq" else _wavelet(rows, light, size)


def _lowfreq(rows: Iterator[Float32], lr: Float32, size: Size) -> Iterator[Float32]:
    """Each output row belongs to the input row it lies on; a mean over these stands for the result at that size."""
    height = size.height
    owners = (np.arange(height) * lr.shape[1]) // height
    columns = _means_over_columns(lr.shape[2], size.width)
    sums = np.zeros_like(lr)
    counts = np.bincount(owners, minlength=lr.shape[1]).astype(np.float32)
    difference = np.zeros_like(lr)
    waiting: deque[tuple[int, Float32]] = deque()
    top = finished = 0  # output rows that came, input rows whose difference is known
    for block in rows:
        light = linear_from_srgb(block)
        narrow = columns(light).transpose(2, 0, 1)
        np.add.at(sums.transpose(1, 0, 2), owners[top : top + len(block)], narrow.transpose(1, 0, 2))
        waiting.append((top, light))
        top += len(block)
        known = lr.shape[1] if top == height else int(owners[top])
        difference[:, finished:known] = lr[:, finished:known] - sums[:, finished:known] / counts[finished:known, None]
        finished = known
        while waiting and (top == height or owners[_last(waiting[0])] + _REACH + 3 < finished):
            start, light = waiting.popleft()
            yield _with_difference(light, difference, size, (start, start + len(light)), owners)


def _last(held: tuple[int, Float32]) -> int:
    return held[0] + len(held[1]) - 1


def _with_difference(
    light: Float32, difference: Float32, size: Size, rows: tuple[int, int], owners: NDArray[np.int64]
) -> Float32:
    """These rows with the blurred difference added; only the input rows around them are blurred."""
    total = difference.shape[1]
    first, last = max(int(owners[rows[0]]) - 3, 0), min(int(owners[rows[1] - 1]) + 4, total)
    start, stop = max(first - _REACH, 0), min(last + _REACH, total)
    blurred = np.zeros_like(difference)
    blurred[:, first:last] = _blurred(difference[:, start:stop])[:, first - start : last - start]
    added = resize_region(blurred, size, rows, (0, size.width))
    return srgb_from_linear(light + added.transpose(1, 2, 0))


def _blurred(values: Float32) -> Float32:
    """A binomial of five along both axes, with the border repeated."""
    padded = np.pad(values, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="edge")
    height, width = values.shape[1:]
    down = np.zeros((values.shape[0], height, width + 2 * _REACH), np.float32)
    across = np.zeros_like(values)
    for k, weight in enumerate(_BLUR):
        down += np.float32(weight) * padded[:, k : k + height]
    for k, weight in enumerate(_BLUR):
        across += np.float32(weight) * down[:, :, k : k + width]
    return across


class _means_over_columns:  # noqa: N801  used as a function that remembers where the columns lie
    """(rows, W, 3) to (rows, w, 3): the mean of the output columns that lie on each input column."""

    def __init__(self, narrow: int, wide: int) -> None:
        owners = (np.arange(wide) * narrow) // wide
        self._starts = np.searchsorted(owners, np.arange(narrow))
        self._counts = np.bincount(owners, minlength=narrow).astype(np.float32)

    def __call__(self, rows: Float32) -> Float32:
        return np.asarray(np.add.reduceat(rows, self._starts, axis=1) / self._counts[:, None], np.float32)


def _wavelet(rows: Iterator[Float32], lr: Float32, size: Size) -> Iterator[Float32]:
    """What five levels leave of input minus result, at the output's size, with a halo of rows on both sides."""
    height = size.height
    held = np.zeros((0, size.width, 3), np.float32)
    start = done = 0  # of the rows that are held; rows handed on
    for block in rows:
        held = np.concatenate([held, linear_from_srgb(block)])
        end = start + len(held)
        ready = height if end == height else end - _HALO
        if ready > done:
            above = max(done - _HALO, 0)
            part = held[above - start :]
            enlarged = resize_region(lr, size, (above, end), (0, size.width)).transpose(1, 2, 0)
            low = _low(enlarged - part)
            yield srgb_from_linear((part + low)[done - above : ready - above])
            done = ready
            keep = max(done - _HALO, 0)
            held, start = held[keep - start :].copy(), keep


def _low(values: Float32) -> Float32:
    """What remains after five levels: [1, 2, 1] / 4 along both axes, ever farther apart, the border repeated."""
    for level in range(_LEVELS):
        for axis in (0, 1):
            reach = 2**level
            pads = [(0, 0)] * 3
            pads[axis] = (reach, reach)
            padded = np.pad(values, pads, mode="edge")
            length = values.shape[axis]
            parts = [padded.take(range(k * reach, k * reach + length), axis=axis) for k in range(3)]
            values = np.asarray((parts[0] + 2 * parts[1] + parts[2]) / 4, np.float32)
    return values
