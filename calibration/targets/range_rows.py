"""What changes from one timestep range to the next, as one row of numbers per range.

Graphs hold everything that all ranges share. The rest comes to ONNX Runtime and OpenVINO in one or two inputs, split
inside the graph; TensorRT wants constants, so there each segment replaces an initializer when the graph is opened or
built. A row has segments (one number or one vector of a layer each), and in range k

    row = constants + slopes * (the segment's factor in range k, repeated) + corrections[k]

so that a further range costs one number per segment on disk instead of one per channel. This module needs NumPy
alone: rows are made at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import GraphError
from engines.arrays import Float32

NUMBERS = "range_numbers"
"""Single numbers: a graph input of shape (n,), or n initializers without axes."""
CHANNELS = "range_channels"
"""One number per channel: a graph input of shape (1, n, 1, 1), or initializers of one axis."""

ARRAYS = ("shape", "sizes", "factors", "slopes", "constants")


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeRows:
    """The values of one graph input for every range.

    shape: of the graph input. sizes: of the segments. factors: (ranges, segments). slopes, constants: (n,).
    corrections: (ranges, n) in float16, or None.
    """

    input: str
    shape: tuple[int, ...]
    sizes: NDArray[np.int64]
    factors: Float32
    slopes: Float32
    constants: Float32
    corrections: NDArray[np.float16] | None = None

    @property
    def ranges(self) -> int:
        """How many rows there are."""
        return int(self.factors.shape[0])

    def row(self, index: int) -> Float32:
        """The input's value in one range."""
        if not 0 <= index < self.ranges:
            raise GraphError(
                f"making the row of range {index} for {self.input}: ranges count from 0 to {self.ranges - 1}."
            )
        row: Float32 = self.constants + self.slopes * np.repeat(self.factors[index], self.sizes)
        if self.corrections is not None:
            row += self.corrections[index]
        return row.reshape(self.shape)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The rows as plain arrays for `numpy.savez`; the name is kept elsewhere."""
        arrays: dict[str, NDArray[Any]] = {name: np.asarray(getattr(self, name)) for name in ARRAYS}
        return arrays if self.corrections is None else {**arrays, "corrections": self.corrections}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> RangeRows:
        """What `to_arrays` described."""
        missing = [key for key in ARRAYS if key not in arrays]
        if missing:
            raise GraphError(f"reading the rows for {name}: there is no array {missing[0]!r}. Quantize again.")
        shape = tuple(int(size) for size in arrays["shape"])
        return cls(input=name, shape=shape, corrections=arrays.get("corrections"), **{k: arrays[k] for k in ARRAYS[1:]})


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeConstants:
    """Initializers whose values differ between ranges: those of `names` are the segments of `rows`."""

    names: tuple[str, ...]
    rows: RangeRows

    def __post_init__(self) -> None:
        if len(self.names) != self.rows.sizes.size:
            raise GraphError(
                f"reading the constants of ranges: {len(self.names)} names for {self.rows.sizes.size} segments of"
                f" {self.rows.input}. Quantize again."
            )

    def in_range(self, index: int) -> dict[str, Float32]:
        """Name -> value in one range."""
        parts = np.split(self.rows.row(index).reshape(-1), np.cumsum(self.rows.sizes)[:-1])
        shape = () if self.rows.input == NUMBERS else (-1,)
        return {name: part.reshape(shape) for name, part in zip(self.names, parts, strict=True)}


@dataclass
class RowWriter:
    """Collects the segments of one `RangeRows`."""

    input: str
    ranges: int
    names: list[str] = field(default_factory=list)
    factors: list[NDArray[np.floating]] = field(default_factory=list)
    slopes: list[Float32] = field(default_factory=list)
    constants: list[Float32] = field(default_factory=list)
    corrections: list[Float32 | None] = field(default_factory=list)

    def add(
        self,
        name: str,
        factors: NDArray[np.floating],
        slopes: Float32 | None = None,
        constants: Float32 | None = None,
        corrections: Float32 | None = None,
    ) -> str:
        """A segment called `name`: constants + factor * slopes + corrections; one number where slopes are left out."""
        slopes = np.ones(1, dtype=np.float32) if slopes is None else slopes.astype(np.float32)
        self.names.append(name)
        self.factors.append(np.asarray(factors, dtype=np.float32))
        self.slopes.append(slopes)
        self.constants.append(np.zeros_like(slopes) if constants is None else constants.astype(np.float32))
        self.corrections.append(corrections)
        return name

    def rows(self, *, leading: tuple[int, ...] = (), trailing: tuple[int, ...] = ()) -> RangeRows:
        """The rows of all segments one after the other, on an axis between the input's leading and trailing ones."""
        sizes = [slopes.size for slopes in self.slopes]
        corrections = None
        if any(part is not None for part in self.corrections):
            blank = [np.zeros((self.ranges, size), dtype=np.float32) for size in sizes]
            filled = [b if part is None else part for b, part in zip(blank, self.corrections, strict=True)]
            corrections = np.concatenate(filled, axis=1).astype(np.float16)
        return RangeRows(
            input=self.input,
            shape=(*leading, sum(sizes), *trailing),
            sizes=np.array(sizes, dtype=np.int64),
            factors=np.stack(self.factors, axis=1),
            slopes=np.concatenate(self.slopes),
            constants=np.concatenate(self.constants),
            corrections=corrections,
        )
