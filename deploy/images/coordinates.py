"""Where an output pixel looks in a smaller grid: indices and relative coordinates, one axis at a time.

Every rule here is float32 arithmetic in a fixed order, because at exact midpoints and at some odd sizes the
chosen pixel hangs on float32 rounding and a whole row changes if it is chosen differently. The networks, the
ONNX graphs (which receive these tables as inputs) and the run time all use this module, nothing else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.arrays import Float32

Int64 = NDArray[np.int64]

_EDGE = np.float32(1e-6)
_ONE = np.float32(1.0)


def pixel_centres(count: int) -> Float32:
    """Coordinates of `count` pixel centres on [-1, 1]: c_i = (-1 + 1/count) + (2/count) * i, in float32."""
    first = np.float32(-1.0 + 1.0 / count)
    spacing = np.float32(2.0 / count)
    return first + spacing * np.arange(count, dtype=np.float32)


def nearest_index(coordinates: Float32, count: int) -> Int64:
    """Index of the pixel nearest to each coordinate among `count`, ties to even after float32 rounding."""
    inside = np.clip(coordinates, -_ONE + _EDGE, _ONE - _EDGE)
    position = (inside + _ONE) * np.float32(count / 2.0) - np.float32(0.5)
    index: Int64 = np.rint(position).astype(np.int64)
    return index


def relative_coordinates(coordinates: Float32, index: Int64, count: int) -> Float32:
    """Distance from the chosen pixel's centre in units of half a pixel: (c - c'_index) * count, about [-1, 1]."""
    return (coordinates - pixel_centres(count)[index]) * np.float32(count)


def resize_index(count_in: int, count_out: int) -> Int64:
    """Source index of every output pixel of a nearest resize: floor(i * s) with s = float32(in / out).

    The product is float32 too, so the result differs from exact arithmetic at some sizes (82 from 16, say).
    """
    scale = np.float32(count_in / count_out)
    index = np.floor(np.arange(count_out, dtype=np.float32) * scale).astype(np.int64)
    inside: Int64 = np.minimum(index, count_in - 1)
    return inside


@dataclass(frozen=True)
class AxisLookup:
    """A look-up along one axis: which pixel each output pixel reads, and how far it lies from it."""

    index: Int64
    relative: Float32


def axis_lookup(count_in: int, count_out: int) -> AxisLookup:
    """The look-up of IDM's implicit layers along one axis, from `count_in` to `count_out` pixels."""
    centres = pixel_centres(count_out)
    index = nearest_index(centres, count_in)
    return AxisLookup(index=index, relative=relative_coordinates(centres, index, count_in))


def covered_centres(count: int, covered: float = 1.0) -> Float32:
    """Coordinates of `count` output pixels that share the first `covered` part of a padded axis.

    1.0 is the whole axis and gives `pixel_centres` to the last bit.
    """
    if covered == 1.0:
        return pixel_centres(count)
    steps = 2.0 * np.arange(count, dtype=np.float64) + 1.0
    return (-1.0 + covered * steps / count).astype(np.float32)


def relative_cell(count_in: int, count_out: int, covered: float = 1.0) -> np.float32:
    """Size of an output pixel in units of half a latent pixel: (2 / count_out) * count_in, in float32."""
    return np.float32(2.0 / count_out * covered) * np.float32(count_in)


def shifted_index(coordinates: Float32, count: int, direction: int) -> Int64:
    """Index of the pixel nearest to each coordinate moved by half a pixel, `direction` being -1, 0 or 1.

    The 1e-6 that is added as well decides at a pixel's own centre, where both neighbours are equally near.
    Direction 0 is the plain look-up, without it.
    """
    if direction == 0:
        return nearest_index(coordinates, count)
    return nearest_index(coordinates + np.float32(direction / count + 1e-6), count)


@dataclass(frozen=True)
class ShiftedLookup:
    """The latent family's four-fold look-up along one axis: the pixel on either side, and the way from it."""

    minus: AxisLookup
    plus: AxisLookup
    relative_cell: np.float32


def shifted_lookup(count_in: int, count_out: int, covered: float = 1.0) -> ShiftedLookup:
    """The look-ups of the implicit decoder along one axis, from `count_in` latent to `count_out` pixels."""
    centres = covered_centres(count_out, covered)
    sides = []
    for direction in (-1, 1):
        index = shifted_index(centres, count_in, direction)
        sides.append(AxisLookup(index=index, relative=relative_coordinates(centres, index, count_in)))
    cell = relative_cell(count_in, count_out, covered)
    return ShiftedLookup(minus=sides[0], plus=sides[1], relative_cell=cell)
