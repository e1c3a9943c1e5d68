"""One file of weights that all graphs of a bundle point into, each tensor once, whatever number of graphs uses it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 4096
"""Tensors start at multiples of a memory page, so that a runtime can map them instead of copying them."""

SMALL_ALIGNMENT = 64
"""A cache line, for tensors too small to be worth a page of their own."""


class ByteSink(Protocol):
    """Where the bytes go."""

    def write(self, data: Any, /) -> object:
        """Appends the bytes."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one tensor lies in the weights file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


def places_of(tensors: Mapping[str, NDArray[Any]], *, small_bytes: int = 0) -> dict[str, Place]:
    """The place of every tensor, in the order of the mapping; those of fewer bytes than `small_bytes` are packed."""
    places, offset = {}, 0
    for name, tensor in tensors.items():
        alignment = SMALL_ALIGNMENT if tensor.nbytes < small_bytes else ALIGNMENT
        offset = -(-offset // alignment) * alignment
        places[name] = Place(dtype=tensor.dtype.name, shape=tensor.shape, offset=offset, length=tensor.nbytes)
        offset += tensor.nbytes
    return places


def write_tensors(sink: ByteSink, tensors: Mapping[str, NDArray[Any]], places: Mapping[str, Place]) -> Iterable[int]:
    """Writes every tensor to its place, little-endian, and yields its size in bytes when it is written."""
    position = 0
    for name, tensor in tensors.items():
        place = places[name]
        sink.write(b"\0" * (place.offset - position))
        plain = np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<"))
        sink.write(plain.reshape(-1).view(np.uint8).data)
        position = place.offset + place.length
        yield place.length
