"""The covariance of a layer's inputs, E[x x^T] of its unfolded input, gathered batch by batch.

A convolution is a matrix product with its unfolded input: at each output position x holds the channels · kernel rows
· kernel columns values under the kernel, channel first, as the rows of `weight.reshape(outputs, -1)` expect. Rounding
needs E[x x^T].

The matrix of 512 channels under a 3x3 kernel has 4608² entries, 85 MB in float32; that of 2048 channels 1.4 GB. So
channels are split into blocks of at most `most_columns` unfolded values, never across the groups of a grouped
convolution, and what lies between two blocks is taken as zero. `passes_within` divides layers among passes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError, WeightError
from engines.arrays import Float32

Values = NDArray[np.floating]

MOST_COLUMNS: Final = 4608
"""512 channels under a 3x3 kernel: every layer of IDM in one block; the widest latent ones in four."""
_BYTES_AT_ONCE: Final = 1 << 25  # of unfolded input
_TILE: Final = 512


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A 2-d convolution: kernel and stride as (rows, columns), padding as (top, left, bottom, right).

    A linear layer is the default on an input of shape (batch, features, 1, positions).
    """

    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        smallest = min(self.channels, self.groups, *self.kernel, *self.stride)
        if smallest < 1 or min(self.padding) < 0 or self.channels % self.groups:
            raise WeightError(
                f"describing a convolution as {self}: sizes of at least 1, no negative padding and channels that"
                " divide into the groups were expected."
            )

    @property
    def columns_per_channel(self) -> int:
        """Unfolded values per input channel: the size of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def channel_blocks(self, most_columns: int = MOST_COLUMNS) -> tuple[tuple[int, int], ...]:
        """First and last + 1 channel of each block, in order; blocks of a group differ by at most one channel."""
        per_group = self.channels // self.groups
        parts = math.ceil(per_group / max(most_columns // self.columns_per_channel, 1))
        cuts = [per_group * part // parts for part in range(parts + 1)]
        return tuple(
            (group * per_group + low, group * per_group + high)
            for group in range(self.groups)
            for low, high in pairwise(cuts)
        )

    def covariance_bytes(self) -> int:
        """The memory that the sums of one layer take."""
        columns = [(high - low) * self.columns_per_channel for low, high in self.channel_blocks()]
        return 4 * sum(n * n for n in columns)


def unfold(values: Values, geometry: Geometry) -> Float32:
    """The values under the kernel at each output position; shape (channels, rows, columns, batch, out, out).

    A view where nothing is padded. `reshape(channels * rows * columns, -1)` gives one column per position.
    """
    array = np.asarray(values, dtype=np.float32)
    top, left, bottom, right = geometry.padding
    if any(geometry.padding):
        array = np.pad(array, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(array, geometry.kernel, axis=(2, 3))
    rows, columns = geometry.stride
    return windows[:, :, ::rows, ::columns].transpose(1, 4, 5, 0, 2, 3)


class InputCovariance:
    """Sums of x x^T, per block of channels, over all positions of all inputs of one layer.

    Sums are held in float32, whose rounding is nothing beside what `calibration.choose.rounding` adds
    (docs/measurements.md, sums of covariances). Only tiles on and below the diagonal are computed.

    most_positions: of each input at most about this many output positions are used, on an even lattice. Few inputs with
    many positions are faster than many with few, since adding a product to the sums takes a time of its own. The same
    calls in the same order give the same bytes.
    """

    def __init__(self, geometry: Geometry, most_columns: int = MOST_COLUMNS, most_positions: int | None = None) -> None:
        self.geometry = geometry
        self.blocks = geometry.channel_blocks(most_columns)
        self.most_positions = most_positions
        self.positions = 0
        sizes = [(high - low) * geometry.columns_per_channel for low, high in self.blocks]
        self._sums = [np.zeros((size, size), dtype=np.float32) for size in sizes]

    def add(self, values: Values) -> None:
        """Take in one input of shape (batch, channels, rows, columns)."""
        if values.ndim != 4 or values.shape[1] != self.geometry.channels:
            raise StatisticsError(
                f"gathering the covariance of an input: shape (batch, {self.geometry.channels}, rows, columns) was"
                f" expected, found {values.shape}."
            )
        unfolded = self._thinned(unfold(values, self.geometry))
        for (low, high), sums in zip(self.blocks, self._sums, strict=True):
            _add_products(sums, unfolded[low:high])
        self.positions += math.prod(unfolded.shape[3:])

    def _thinned(self, unfolded: Float32) -> Float32:
        positions = math.prod(unfolded.shape[3:])
        if self.most_positions is None or positions <= self.most_positions:
            return unfolded
        apart = math.ceil(math.sqrt(positions / self.most_positions))
        return unfolded[..., apart // 2 :: apart, apart // 2 :: apart]

    @property
    def products(self) -> list[Float32]:
        """E[x x^T] of each block of channels."""
        if self.positions == 0:
            raise StatisticsError("averaging a covariance: no input was gathered; add at least one.")
        return [_symmetric(sums / np.float32(self.positions)) for sums in self._sums]


def _add_products(sums: Float32, unfolded: Float32) -> None:
    """Adds the products of all positions of an unfolded input, as `unfold` gives it, to the sums in place."""
    size = sums.shape[0]
    batch, rows, columns = unfolded.shape[3:]
    rows_at_once = max(_BYTES_AT_ONCE // (4 * size * columns), 1)
    items_at_once = max(rows_at_once // rows, 1)
    for item in range(0, batch, items_at_once):
        for row in range(0, rows, rows_at_once):
            part = unfolded[:, :, :, item : item + items_at_once, row : row + rows_at_once]
            x = part.reshape(size, -1)
            if not math.isfinite(float(np.vdot(x, x))):
                raise StatisticsError(
                    "gathering the covariance of an input: some of its values are not finite or too large;"
                    " run the float graph on the same inputs to see where they arise."
                )
            for low, high in _tiles(size):
                sums[low:high, :high] += x[low:high] @ x[:high].T


def _symmetric(lower: Float32) -> Float32:
    """The matrix, in place, whose tiles above the diagonal mirror those below."""
    for low, high in _tiles(lower.shape[0]):
        lower[:low, low:high] = lower[low:high, :low].T
    return lower


def _tiles(size: int) -> list[tuple[int, int]]:
    """First and last + 1 row of each tile; a tile's products stay in the processor's cache until they are added."""
    return [(low, min(low + _TILE, size)) for low in range(0, size, _TILE)]


def passes_within(layers: Mapping[str, Geometry], memory_bytes: int) -> list[list[str]]:
    """Layers in their order, divided into passes over the inputs whose covariances together fit into memory_bytes."""
    passes: list[list[str]] = []
    bytes_left = 0
    for name, geometry in layers.items():
        size = geometry.covariance_bytes()
        if size > memory_bytes:
            raise WeightError(
                f"gathering the covariance of {name!r}: it needs {size / 2**20:.0f} MiB, {memory_bytes / 2**20:.0f}"
                " MiB are allowed; allow more memory or fewer columns per block."
            )
        if not passes or size > bytes_left:
            passes.append([])
            bytes_left = memory_bytes
        passes[-1].append(name)
        bytes_left -= size
    return passes
