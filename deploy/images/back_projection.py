"""A picture that comes in rows, corrected until it shrinks back to the low-resolution picture it was made from.

Each pass adds `strength` times the enlarged difference between the low-resolution picture and the reduced one, as
`deploy.images.resize.data_consistency` does it, whose resizing this is. Reducing and enlarging are linear, so only the
first pass looks at the picture: with D for reducing and U for enlarging, the differences are

    r_1 = lr - D x,    r_2 = r_1 - strength * D U r_1,    ...    and the result is x + strength * U (r_1 + r_2 + ...),

all of them as small as the low-resolution picture. A row of the result waits for the rows below that it depends on:
about four low-resolution rows for each pass. No more of the picture is held.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from math import ceil

import numpy as np

from deploy.images.resize import FloatImage, Span, resize_region, resize_rows, rows_read, rows_ready
from deploy.images.sizes import Size

_AT_ONCE = 2
"""Low-resolution rows whose part of the picture is corrected together."""

_HELD, _HELD_BY_PASS = 12, 16
"""Low-resolution rows whose part of the picture is in memory at a time, copies included: at least as many as seen."""


def back_projected_rows(
    blocks: Iterable[FloatImage], lr: FloatImage, size: Size, *, strength: float, passes: int
) -> Iterator[FloatImage]:
    """The picture at `size` in blocks (batch, channels, rows, width) from top to bottom, corrected.

    blocks: of the picture as it is, which are changed. lr: (batch, channels, h, w), in the same value range.
    """
    differences = _Differences(lr, size, strength, passes)
    held: deque[FloatImage] = deque()
    top = bottom = 0  # of what is held
    for block in _gathered(blocks, _AT_ONCE * _ratio(Size(*lr.shape[2:]), size)):
        held.append(block)
        bottom += block.shape[2]
        differences.learn(held, top, bottom)
        while held and differences.are_known((top, top + held[0].shape[2])):
            made = held.popleft()
            differences.correct(made, top)
            top += made.shape[2]
            yield made


def back_projection_bytes(lr: Size, size: Size, batch: int, passes: int) -> int:
    """Memory that `back_projected_rows` takes for pictures of three channels, at most."""
    rows = _ratio(lr, size) * (_HELD + _HELD_BY_PASS * passes)
    return 12 * batch * (rows * size.width + passes * lr.height * lr.width)


class _Differences:
    """What each pass finds between the low-resolution picture and the reduced one, from top to bottom."""

    def __init__(self, lr: FloatImage, size: Size, strength: float, passes: int) -> None:
        self._lr, self._small, self._size = lr, Size(*lr.shape[2:]), size
        self._strength = np.float32(strength)
        self._passes = [np.empty_like(lr) for _ in range(passes)]
        self._known = [0] * passes  # rows of each

    def learn(self, held: Iterable[FloatImage], top: int, bottom: int) -> None:
        """All that follows from the rows above `bottom` is known; of the picture, those from `top` on are held."""
        height, small = self._size.height, self._small
        rows = (self._known[0], rows_ready(height, small.height, bottom))
        if rows[0] < rows[1]:
            strip, first = _cut(held, top, rows_read(height, small.height, rows))
            reduced = resize_rows(strip, first, height, small, rows)
            self._passes[0][:, :, slice(*rows)] = self._lr[:, :, slice(*rows)] - reduced
            self._known[0] = rows[1]
        for number in range(1, len(self._passes)):
            before, found = self._passes[number - 1 : number + 1]
            enlarged_ready = rows_ready(small.height, height, self._known[number - 1])
            rows = (self._known[number], rows_ready(height, small.height, enlarged_ready))
            if rows[0] < rows[1]:
                read = rows_read(height, small.height, rows)
                enlarged = resize_region(before, self._size, read, (0, self._size.width))
                reduced = resize_rows(enlarged, read[0], height, small, rows)
                found[:, :, slice(*rows)] = before[:, :, slice(*rows)] - self._strength * reduced
                self._known[number] = rows[1]

    def are_known(self, rows: Span) -> bool:
        """Whether these rows of the picture can be corrected, and nothing reads them as they are any more."""
        height, small = self._size.height, self._small.height
        first = self._known[0]
        still_read = height if first == small else rows_read(height, small, (first, first + 1))[0]
        return rows_read(small, height, rows)[1] <= self._known[-1] and rows[1] <= still_read

    def correct(self, strip: FloatImage, top: int) -> None:
        """These rows of the picture, changed in place."""
        rows = (top, top + strip.shape[2])
        read = rows_read(self._small.height, self._size.height, rows)
        total = np.sum([found[:, :, slice(*read)] for found in self._passes], axis=0) * self._strength
        strip += resize_rows(total, read[0], self._small.height, self._size, rows)


def _ratio(lr: Size, size: Size) -> int:
    """Rows of the picture to one of the low-resolution picture, rounded up."""
    return max(ceil(size.height / lr.height), 1)


def _gathered(blocks: Iterable[FloatImage], rows: int) -> Iterator[FloatImage]:
    """The blocks joined until they have at least so many rows, but for the last."""
    waiting: list[FloatImage] = []
    for block in blocks:
        waiting.append(block)
        if sum(each.shape[2] for each in waiting) >= rows:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _cut(held: Iterable[FloatImage], top: int, rows: Span) -> tuple[FloatImage, int]:
    """The blocks that have some of these rows, joined, and the first row they have; the first block begins at `top`."""
    parts: list[FloatImage] = []
    first = top
    for block in held:
        bottom = top + block.shape[2]
        if bottom <= rows[0]:
            first = bottom
        elif top < rows[1]:
            parts.append(block)
        top = bottom
    return _joined(parts), first


def _joined(blocks: list[FloatImage]) -> FloatImage:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)
