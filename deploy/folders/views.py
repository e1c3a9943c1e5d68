"""What a result file shows: the enlarged picture alone, or beside what enlarging without a model gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from deploy.images.files import Pixels
from deploy.images.resize import resize_region

if TYPE_CHECKING:
    from deploy.folders.reading import Ready
    from deploy.folders.request import Request


def shown_rows(rows: Iterable[Pixels], ready: Ready, request: Request) -> Iterator[Pixels]:
    """The rows of the file: those of the result, to the right of bicubic ones where they are to be compared."""
    if not request.compare:
        yield from rows
        return
    width, height = ready.size
    values = np.moveaxis(ready.read.pixels, -1, 0).astype(np.float32)
    top = 0
    for block in rows:
        bottom = top + block.shape[0]
        enlarged = resize_region(values, (height, width), (top, bottom), (0, width))
        plain = np.moveaxis(np.clip(np.rint(enlarged), 0, 255).astype(np.uint8), 0, -1)
        yield np.concatenate([plain, block], axis=1)
        top = bottom
