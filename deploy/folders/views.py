"""What a result file shows: the enlarged picture alone, or beside what enlarging without a model gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deploy.images.picture import HIGHEST, Samples
from deploy.images.resize import resize_region
from deploy.images.sizes import Size

if TYPE_CHECKING:
    from deploy.folders.reading import Ready
    from deploy.folders.request import Request

_ROWS_AT_A_TIME = 64


def shown_rows(rows: Iterable[Samples], ready: Ready, request: Request) -> Iterator[Samples]:
    """The rows of the file: those of the result, to the right of bicubic ones where they are to be compared."""
    if not request.compare:
        yield from rows
        return
    view = ready.source.view.without_color_fix()
    plain = view.samples(_bicubic_rows(ready.source.pixels, ready.size), ready.size, ready.result.bits)
    left: list[Samples] = []
    for block in rows:
        while sum(map(len, left)) < len(block):
            left.append(next(plain))
        beside = np.concatenate(left)
        left = [beside[len(block) :]]
        yield np.concatenate([beside[: len(block)], block], axis=1)


def _bicubic_rows(pixels: Samples, size: Size) -> Iterator[NDArray[np.float32]]:
    """What the network sees, enlarged without it: blocks (rows, W, 3) from 0 to 1."""
    values = np.moveaxis(pixels, -1, 0).astype(np.float32) / np.float32(HIGHEST[pixels.dtype])
    for top in range(0, size.height, _ROWS_AT_A_TIME):
        span = top, min(top + _ROWS_AT_A_TIME, size.height)
        yield np.clip(np.moveaxis(resize_region(values, size, span, (0, size.width)), 0, -1), 0, 1)
