"""What the inputs of a layer have in common: E[x x^T] and E[x] of its unfolded input, gathered batch by batch.

A convolution is a matrix product with its unfolded input: at each output position x holds the channels · kernel rows
· kernel columns values under the kernel, channel first, as the rows of `weight.reshape(outputs, -1)` expect. Rounding
needs E[x x^T], correction needs E[x].

The matrix of 512 channels under a 3x3 kernel has 4608² entries, 170 MB in float64; that of 2048 channels 2.7 GB. So
channels are split into blocks of at most `most_columns` unfolded values, never across the groups of a grouped
convolution, and what lies between two blocks is taken as zero. `passes_within` divides layers among passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError, WeightError

FloatArray = NDArray[np.float64]
Values = NDArray[np.floating]

MOST_COLUMNS: Final = 4608
"""512 channels under a 3x3 kernel: every layer of IDM in one block; the widest latent ones in four."""
_BYTES_AT_ONCE: Final = 1 << 25  # of unfolded input


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
        """Refuse what no convolution has."""
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

    def covariance_bytes(self, most_columns: int = MOST_COLUMNS) -> int:
        """What the sums of one layer occupy in memory."""
        columns = [(high - low) * self.columns_per_channel for low, high in self.channel_blocks(most_columns)]
        return 8 * sum(n * n + n for n in columns)


def unfold(values: Values, geometry: Geometry) -> NDArray[np.float32]:
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
    """Sums of x x^T (per block of channels) and of x, over all positions of all inputs of one layer.

    Wide layers on small pictures go fastest with whole batches at a time: 512 channels of 16x16 under 3x3 took 0.17 s
    for one picture and 1.2 s for sixteen (one thread of a CPU with AVX-512).

    most_positions: of each input at most about this many output positions are used, on an even lattice. The matrix
    products are made in float32 and added up in float64; the same calls in the same order give the same bytes.
    """

    def __init__(self, geometry: Geometry, most_columns: int = MOST_COLUMNS, most_positions: int | None = None) -> None:
        self.geometry = geometry
        self.blocks = geometry.channel_blocks(most_columns)
        self.most_positions = most_positions
        self.weight = 0.0
        per_channel = geometry.columns_per_channel
        sizes = [(high - low) * per_channel for low, high in self.blocks]
        self._products: list[FloatArray] = [np.zeros((size, size)) for size in sizes]
        self._sums: FloatArray = np.zeros(geometry.channels * per_channel)

    def add(self, values: Values, weight: float = 1.0) -> None:
        """Take in one input of shape (batch, channels, rows, columns); each position counts `weight` times."""
        if values.ndim != 4 or values.shape[1] != self.geometry.channels:
            raise StatisticsError(
                f"gathering the covariance of an input: shape (batch, {self.geometry.channels}, rows, columns) was"
                f" expected, found {values.shape}."
            )
        if not 0 < weight < math.inf:
            raise StatisticsError(f"gathering the covariance of an input: its weight, {weight}, must be positive.")
        unfolded = self._thinned(unfold(values, self.geometry))
        for index, (low, high) in enumerate(self.blocks):
            self._add_block(index, unfolded[low:high], weight)
        self.weight += weight * math.prod(unfolded.shape[3:])

    def _thinned(self, unfolded: NDArray[np.float32]) -> NDArray[np.float32]:
        positions = math.prod(unfolded.shape[3:])
        if self.most_positions is None or positions <= self.most_positions:
            return unfolded
        apart = math.ceil(math.sqrt(positions / self.most_positions))
        return unfolded[..., apart // 2 :: apart, apart // 2 :: apart]

    def _add_block(self, index: int, unfolded: NDArray[np.float32], weight: float) -> None:
        size = self._products[index].shape[0]
        start = self.blocks[index][0] * self.geometry.columns_per_channel
        batch, rows, columns = unfolded.shape[3:]
        rows_at_once = max(_BYTES_AT_ONCE // (4 * size * columns), 1)
        items_at_once = max(rows_at_once // rows, 1)  # adding a product costs as much as some hundred positions
        for item in range(0, batch, items_at_once):
            for row in range(0, rows, rows_at_once):
                part = unfolded[:, :, :, item : item + items_at_once, row : row + rows_at_once]
                x = np.float32(math.sqrt(weight)) * part.reshape(size, -1)
                product = x @ x.T
                if not math.isfinite(float(np.trace(product))):
                    raise StatisticsError(
                        "gathering the covariance of an input: some of its values are not finite or too large;"
                        " run the float graph on the same inputs to see where they arise."
                    )
                self._products[index] += product
                self._sums[start : start + size] += math.sqrt(weight) * x.sum(axis=1, dtype=np.float64)

    def merge(self, other: InputCovariance) -> None:
        """Take in everything that `other` has gathered from the same layer."""
        if other.geometry != self.geometry or other.blocks != self.blocks:
            raise StatisticsError(
                f"merging covariances: {other.geometry} in {len(other.blocks)} blocks does not fit {self.geometry} in"
                f" {len(self.blocks)}; both must come from the same layer."
            )
        for mine, theirs in zip(self._products, other._products, strict=True):
            mine += theirs
        self._sums += other._sums
        self.weight += other.weight

    @property
    def products(self) -> list[FloatArray]:
        """E[x x^T] of each block of channels."""
        self._check_gathered()
        return [product / self.weight for product in self._products]

    @property
    def mean(self) -> FloatArray:
        """E[x], shape (channels · kernel rows · kernel columns,)."""
        self._check_gathered()
        return self._sums / self.weight

    def _check_gathered(self) -> None:
        if self.weight == 0:
            raise StatisticsError("averaging a covariance: no input was gathered; add at least one.")

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The sums as plain arrays for `numpy.savez`."""
        products = {f"product{index}": product for index, product in enumerate(self._products)}
        return {"weight": np.array(self.weight), "sums": self._sums, **products}

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add what `to_arrays` described, of the same layer."""
        shapes = {name: array.shape for name, array in self.to_arrays().items()}
        found = {name: arrays[name].shape for name in shapes if name in arrays}
        if found != shapes:
            raise StatisticsError(
                f"reading a saved covariance: arrays of shapes {shapes} were expected, found {found}; gather it again."
            )
        for index, product in enumerate(self._products):
            product += arrays[f"product{index}"]
        self._sums += arrays["sums"]
        self.weight += float(arrays["weight"])


def passes_within(
    layers: Mapping[str, Geometry], memory_bytes: int, most_columns: int = MOST_COLUMNS
) -> list[list[str]]:
    """Layers in their order, divided into passes over the inputs whose covariances together fit into memory_bytes."""
    passes: list[list[str]] = []
    left = 0
    for name, geometry in layers.items():
        needed = geometry.covariance_bytes(most_columns)
        if needed > memory_bytes:
            raise WeightError(
                f"gathering the covariance of {name!r}: it needs {needed / 2**20:.0f} MiB, {memory_bytes / 2**20:.0f}"
                " MiB are allowed; allow more memory or fewer columns per block."
            )
        if not passes or needed > left:
            passes.append([])
            left = memory_bytes
        passes[-1].append(name)
        left -= needed
    return passes
