"""Tensors that stay in their file until they are read, and are then mapped into memory where possible."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.checkpoint.unpickling import STORAGE_DTYPES

# NumPy has no bfloat16: its bits are read as whole numbers and widened by hand.
NUMPY_DTYPES = {name: np.dtype("uint16" if name == "bfloat16" else name) for name in STORAGE_DTYPES.values()}
FLOATS = ("float64", "float32", "float16", "bfloat16")


class Tensor(Protocol):
    """A tensor that can be read: as a file stores it, or assembled of several."""

    @property
    def dtype(self) -> str:
        """Of the stored numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""

    def read(self) -> NDArray[Any]:
        """The numbers."""


@dataclass(frozen=True)
class WeightsFile:
    """A file whose numbers are mapped into memory on first use, once for all tensors."""

    path: Path
    size: int

    @cached_property
    def mapped(self) -> NDArray[np.uint8]:
        """Every byte. Changes to it stay in memory and never reach the file."""
        return np.memmap(self.path, np.uint8, mode="c").view(np.ndarray)

    def numbers(self, dtype: np.dtype[Any], position: int, count: int) -> NDArray[Any]:
        """`count` numbers from the byte at `position`."""
        if position % dtype.itemsize:  # torch's older format does not align its numbers: a mapping would not do
            return np.fromfile(self.path, dtype, count, offset=position)
        return self.mapped[position : position + count * dtype.itemsize].view(dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `position` in bytes, strides in numbers."""

    file: WeightsFile
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    position: int

    def read(self) -> NDArray[Any]:
        """The numbers, in the stored type (bfloat16 as float32), mapped from the file where that is possible."""
        dtype = NUMPY_DTYPES[self.dtype]
        if 0 in self.shape:
            return np.zeros(self.shape, dtype=np.float32 if self.dtype == "bfloat16" else dtype)
        count = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        run = self.file.numbers(dtype, self.position, count)
        if self.strides == contiguous_strides(self.shape):
            view = run.reshape(self.shape)
        else:
            byte_strides = tuple(stride * dtype.itemsize for stride in self.strides)
            view = np.lib.stride_tricks.as_strided(run, self.shape, byte_strides)
        if self.dtype == "bfloat16":
            return np.asarray(np.left_shift(view, 16, dtype=np.uint32)).view(np.float32)
        return view


@dataclass(frozen=True, kw_only=True)
class AssembledTensor:
    """A tensor made of others, which stay in their files until it is read."""

    pieces: tuple[StoredTensor, ...]
    shape: tuple[int, ...]
    make: Callable[[Sequence[NDArray[Any]]], NDArray[Any]]

    @property
    def dtype(self) -> str:
        """Of the first piece that is not of floats, which is refused then; else of the first."""
        return next((piece.dtype for piece in self.pieces if piece.dtype not in FLOATS), self.pieces[0].dtype)

    def read(self) -> NDArray[Any]:
        """The tensor, made anew."""
        return self.make([piece.read() for piece in self.pieces]).reshape(self.shape)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in numbers of an array without gaps."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
