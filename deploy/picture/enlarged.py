"""A sampled picture as rows of the kind that came in: depth, channels, colours and alpha."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.images.picture import DTYPES, Samples
from deploy.images.view import View
from deploy.picture.run import Sampled


@dataclass(frozen=True, kw_only=True)
class Enlarged:
    """One picture that was sampled, by its number in the batch, and the view that the network had of it."""

    sampled: Sampled
    view: View
    index: int = 0

    def rows(self, bits: int | None = None) -> Iterator[Samples]:
        """Blocks (rows, W, C) from top to bottom, in as many bits as the input has, or in `bits`."""
        bits = self.view.picture.bits if bits is None else bits
        if self.view.is_plain and bits == 8:
            for block in self.sampled.rows():
                yield block[self.index, :, :, :1] if self.view.picture.is_grey else block[self.index]
        else:
            rows = (block[self.index] for block in self.sampled.unit_rows())
            yield from self.view.samples(rows, self.sampled.size, bits, self.sampled.alpha(self.index))


def samples_of_batch(sampled: Sampled, views: Sequence[View]) -> list[Samples]:
    """Each picture (H, W, C) of a batch whose views are plain, or are not, all of them."""
    if all(view.is_plain for view in views):
        grey = [view.picture.is_grey for view in views]
        return [one[:, :, :1] if is_grey else one for one, is_grey in zip(sampled.pixels(), grey, strict=True)]
    whole = np.empty((len(views), *sampled.size, 3), np.float32)
    top = 0
    for block in sampled.unit_rows():
        whole[:, top : top + block.shape[1]] = block
        top += block.shape[1]
    results = []
    for index, (view, rows) in enumerate(zip(views, whole, strict=True)):
        made = np.empty((*sampled.size, view.channels), DTYPES[view.picture.bits])
        top = 0
        for part in view.samples(iter([rows]), sampled.size, view.picture.bits, sampled.alpha(index)):
            made[top : top + len(part)] = part
            top += len(part)
        results.append(made)
    return results
