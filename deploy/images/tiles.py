"""Overlapping tiles: where they lie and how they are blended, one axis at a time.

A tile's window starts at a multiple of the network's stride, so that the levels of the tile lie on those of the
whole picture; the last one is shifted back, never shrunk. Of an overlap of n pixels the outer quarter, where a
tile misses what lies beyond its border, is not used at all, and the middle half goes from one tile to the next
along sin^2. Weights are normalised: blending tiles that agree changes nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from deploy.errors import SizeError
from deploy.images.sizes import Size
from engines.arrays import Float32

Span = tuple[int, int]  # half-open

LARGEST_OVERLAP = 64
"""Pixels. More would cost time and change little: what normalisation sees of a tile is not helped by overlap."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of the output: rows top..bottom and columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """Of the rectangle."""
        return Size(self.bottom - self.top, self.right - self.left)

    @property
    def rows(self) -> slice:
        """The rows, to index with."""
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        """The columns, to index with."""
        return slice(self.left, self.right)

    @classmethod
    def whole(cls, size: Size) -> "Window":
        """The window that is the whole picture."""
        return cls(top=0, left=0, bottom=size[0], right=size[1])


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How a picture of `size` (height, width) is cut into tiles of `tile` pixels a side."""

    size: Size
    tile: int
    stride: int

    def __post_init__(self) -> None:
        if self.tile < smallest_tile(self.stride) or self.tile % self.stride:
            below = max(self.tile // self.stride * self.stride, smallest_tile(self.stride))
            raise SizeError(
                f"A tile of {self.tile} pixels does not suit this network: its side must be a multiple of "
                f"{self.stride} and at least {smallest_tile(self.stride)}. The nearest is {below}."
            )

    @property
    def overlap(self) -> int:
        """Pixels that neighbouring tiles share: a quarter of the tile within limits, a multiple of the stride."""
        quarter = min(self.tile // 4, LARGEST_OVERLAP) // self.stride * self.stride
        return max(quarter, 2 * self.stride)

    @cached_property
    def row_spans(self) -> list[Span]:
        """The rows of each row of tiles."""
        return axis_spans(self.size[0], self.tile, self.overlap, self.stride)

    @cached_property
    def column_spans(self) -> list[Span]:
        """The columns of each column of tiles."""
        return axis_spans(self.size[1], self.tile, self.overlap, self.stride)

    @property
    def is_whole(self) -> bool:
        """Whether one tile is the whole picture."""
        return len(self) == 1

    def __len__(self) -> int:
        """The number of tiles."""
        return len(self.row_spans) * len(self.column_spans)

    def windows(self) -> Iterator[tuple[Window, Float32]]:
        """Each tile's window with its weights (height, width), row by row; the weights add up to 1 at every pixel."""
        columns = axis_weights(self.column_spans, self.overlap)
        for (top, bottom), down in zip(self.row_spans, axis_weights(self.row_spans, self.overlap), strict=True):
            for (left, right), across in zip(self.column_spans, columns, strict=True):
                yield Window(top=top, left=left, bottom=bottom, right=right), down[:, None] * across[None]

    @property
    def largest(self) -> Size:
        """Of the largest tile: the last one of an axis carries what does not divide by the stride."""
        return Size(*(max(stop - start for start, stop in spans) for spans in (self.row_spans, self.column_spans)))

    def halved(self) -> "Tiling | None":
        """Tiles of about half the side, the smallest at least; None where these are the smallest."""
        side, smallest = min(self.tile, max(self.size)), smallest_tile(self.stride)
        if side <= smallest:
            return None
        half = max(side // 2 // self.stride * self.stride, smallest)
        return Tiling(size=self.size, tile=half, stride=self.stride)


def smallest_tile(stride: int) -> int:
    """Twice the smallest overlap, two strides: below that, tiles would be all border."""
    return 4 * stride


def whole_tiling(size: Size, stride: int) -> Tiling:
    """One tile that is the whole picture."""
    side = -(-max(size) // stride) * stride
    return Tiling(size=size, tile=max(side, smallest_tile(stride)), stride=stride)


def axis_spans(length: int, tile: int, overlap: int, stride: int) -> list[Span]:
    """Where tiles lie on an axis. `tile` and `overlap` are multiples of `stride`; starts are, ends need not be.

    An axis of 100 with tiles of 48, an overlap of 16 and stride 8: 0..48, 32..80, 48..100.
    """
    if length <= tile:
        return [(0, length)]
    last = (length - tile) // stride * stride
    starts = [*range(0, last, tile - overlap), last]
    return [(start, start + tile) for start in starts[:-1]] + [(last, length)]


def axis_weights(spans: list[Span], overlap: int) -> list[Float32]:
    """The share of each tile at each of its pixels on an axis; at every pixel the shares add up to 1."""
    length = spans[-1][1]
    position = (np.arange(overlap) + 0.5) / overlap
    ramp = np.sin(np.pi / 2 * np.clip(2 * position - 0.5, 0.0, 1.0)) ** 2
    shares = []
    total = np.zeros(length)
    for start, stop in spans:
        share = np.ones(stop - start)
        if start > 0:
            share[:overlap] = ramp
        if stop < length:
            share[-overlap:] = np.minimum(share[-overlap:], ramp[::-1])
        total[start:stop] += share
        shares.append(share)
    return [(s / total[start:stop]).astype(np.float32) for s, (start, stop) in zip(shares, spans, strict=True)]


VALUES_PER_STRIP = 1 << 18  # 1 MiB of float32


def strips_of_rows(shape: tuple[int, ...]) -> Iterator[slice]:
    """Runs of rows of an array (batch, channels, height, width), of about VALUES_PER_STRIP values of each of the batch.

    So pictures are cut alike however many are made together: a strip is resized by matrix products, which add up in
    another order where they are cut elsewhere.
    """
    _, channels, height, width = shape
    count = max(1, VALUES_PER_STRIP // (channels * width))
    for top in range(0, height, count):
        yield slice(top, min(top + count, height))
