"""PNG's filters, by which each byte is stored as its difference from its neighbours, both ways.

Filters work on bytes, `unit` of them per pixel (PNG third edition, section 9). Row by row and byte by byte they are
slow in Python. Here a block of rows is taken along its diagonals: what a byte depends on (to its left, above, above
left) lies on earlier ones, so that each diagonal is one step for all rows at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploy.images.formats.contract import DamageError

Bytes = NDArray[np.uint8]

NONE, SUB, UP, AVERAGE, PAETH = range(5)


def filtered(rows: Bytes, previous: Bytes, unit: int) -> bytes:
    """Rows of bytes (R, row bytes) as PNG filters them, each with whichever of Sub, Up and Paeth leaves the smallest
    differences; `previous` is the row before, (row bytes,).

    The sum of absolute differences, taken as signed bytes, is the choice the PNG specification suggests (12.7).
    """
    here = rows.astype(np.int16)
    up = np.concatenate([previous[None], rows[:-1]]).astype(np.int16)
    left = np.zeros_like(here)
    left[:, unit:] = here[:, :-unit]
    up_left = np.zeros_like(up)
    up_left[:, unit:] = up[:, :-unit]
    best: Bytes = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    cost = np.full(rows.shape[0], np.iinfo(np.int64).max)
    for number, guess in ((SUB, left), (UP, up), (PAETH, _paeth(left, up, up_left))):
        residual = (here - guess).astype(np.uint8)
        sums = np.abs(residual.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64)
        better = sums < cost
        cost[better] = sums[better]
        best[better, 0] = number
        best[better, 1:] = residual[better]
    return best.tobytes()


def unfiltered(stored: Bytes, previous: Bytes, unit: int) -> Bytes:
    """Rows (R, row bytes) of what is stored (R, 1 + row bytes), each row's filter first."""
    numbers, rows = stored[:, 0], stored[:, 1:]
    if (numbers > PAETH).any():
        raise DamageError(f"a row has the unknown filter {int(numbers.max())}")
    if (numbers <= UP).all():
        return _without_diagonals(numbers, rows, previous, unit)
    return _along_diagonals(numbers, rows, previous, unit)


def _without_diagonals(numbers: NDArray[np.uint8], rows: Bytes, previous: Bytes, unit: int) -> Bytes:
    made = np.empty_like(rows)
    above = previous
    for index, number in enumerate(numbers.tolist()):
        if number == SUB:
            pixels = rows[index].reshape(-1, unit)
            made[index] = np.cumsum(pixels, axis=0, dtype=np.uint8).reshape(-1)
        else:
            made[index] = rows[index] + above if number == UP else rows[index]
        above = made[index]
    return made


def _along_diagonals(numbers: NDArray[np.uint8], rows: Bytes, previous: Bytes, unit: int) -> Bytes:
    """Step t makes pixel t - r of each row r; those outside a row are made of nothing and thrown away."""
    count, width = rows.shape[0], rows.shape[1] // unit
    steps = width + count - 1
    skewed = np.zeros((count, steps, unit), np.int16)
    for index in range(count):
        skewed[index, index : index + width] = rows[index].reshape(width, unit)
    stored = np.ascontiguousarray(skewed.transpose(1, 0, 2))
    # made[t, 1 + r] is pixel t - r of row r; made[t, 0] is pixel t + 1 of the row before the block.
    made = np.zeros((steps + 2, count + 1, unit), np.int16)
    before = previous.reshape(width, unit)
    made[1, 0] = before[0]
    made[2 : width + 1, 0] = before[1:]
    is_sub, is_up, is_average, is_paeth = ((numbers == number)[:, None] for number in (SUB, UP, AVERAGE, PAETH))
    no_average, no_paeth = not is_average.any(), not is_paeth.any()
    sub, up = is_sub.astype(np.int16), is_up.astype(np.int16)
    column = -np.arange(count)[:, None]  # of step 0
    for step in range(steps):
        left, above, corner = made[step + 1, 1:], made[step + 1, :-1], made[step, :-1]
        guess = left * sub + above * up
        if not no_average:
            guess = np.where(is_average, (left + above) >> 1, guess)
        if not no_paeth:
            guess = np.where(is_paeth, _paeth(left, above, corner), guess)
        value = (stored[step] + guess) & 255
        if step < count or step >= width:  # some rows have not begun or are over: their neighbours count as zero
            value *= (column + step >= 0) & (column + step < width)
        made[step + 2, 1:] = value
    whole = made[2:, 1:].transpose(1, 0, 2)
    result = np.empty((count, width, unit), np.uint8)
    for index in range(count):
        result[index] = whole[index, index : index + width]
    return result.reshape(count, -1)


def _paeth(left: NDArray[np.int16], up: NDArray[np.int16], up_left: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of left, up and up-left the one nearest to left + up - up_left; ties in that order."""
    to_left, to_up = np.abs(up - up_left), np.abs(left - up_left)
    to_up_left = np.abs(left + up - 2 * up_left)
    return np.where((to_left <= to_up) & (to_left <= to_up_left), left, np.where(to_up <= to_up_left, up, up_left))
