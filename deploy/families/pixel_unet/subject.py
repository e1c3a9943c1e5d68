"""Pictures on their way to a size, for networks whose state is the picture, and how those see pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import strips_of_rows
from deploy.images.values import NetworkValues, ValueRule
from engines.arrays import Float32


def _levels() -> NetworkValues:
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.float32(0.5)) / np.float32(0.5)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = (np.clip(values, -1.0, 1.0) + np.float32(1)) / np.float32(2)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)  # rint rounds half to even


PIXEL_VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""A picture that goes in and straight out again is unchanged."""


@dataclass(eq=False)
class PixelSubject:
    """Low-resolution pictures (batch, 3, h, w) on their way to `size`; a family adds how its condition is made."""

    _lr: Float32
    _size: Size

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        return self._lr.shape[0], self._lr.shape[1], *self._size

    def first_guess(self, rows: slice) -> Float32:
        """Rows of the bicubically enlarged input."""
        return resize_region(self._lr, self._size, (rows.start, rows.stop), (0, self._size[1]))

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        """`deploy.images.resize.data_consistency` in strips, so that an estimate on disk stays there."""
        height, width = self._lr.shape[2:]
        difference = np.empty_like(self._lr)
        for rows in _lr_strips(self._lr.shape, self._size):
            small = resize_region(estimate, (height, width), (rows.start, rows.stop), (0, width))
            np.subtract(self._lr[:, :, rows], small, out=difference[:, :, rows])
            trim()
        difference *= np.float32(strength)
        for rows in strips_of_rows(estimate.shape):
            span = (rows.start, rows.stop)
            estimate[:, :, rows] += resize_region(difference, self._size, span, (0, self._size[1]))
            trim()

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """The state, which is the picture, strip by strip; its estimates were made consistent."""
        del room, consistency
        for rows in strips_of_rows(state.shape):
            yield state[:, :, rows]


def _lr_strips(lr_shape: tuple[int, ...], size: Size) -> Iterator[slice]:
    """Rows of the input whose part of the output has about the values of one strip."""
    batch, channels, height, width = lr_shape
    taller, wider = -(-size[0] // height), -(-size[1] // width)
    return strips_of_rows((batch, channels * taller * wider, height, width))
