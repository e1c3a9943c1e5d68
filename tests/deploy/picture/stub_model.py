"""A model without a network: local arithmetic whose reach is known, so that tiles can be held against the whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.families.contract import NOTHING_STAYS, Keep
from deploy.families.idm.model import SAMPLING, VALUES
from deploy.families.model import Growth
from deploy.images.resize import data_consistency, resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.sampling.plan import PlanRow
from deploy.sampling.turns import Turn, turned
from engines.errors import OutOfMemory

Float32 = NDArray[np.float32]
REACH = 4
"""Pixels around one that its prediction depends on: two means over 5x5."""


def mean_5x5(x: Float32) -> Float32:
    """The mean over 5x5, with zeros beyond the border as a convolution has them."""
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    rows = sum(padded[:, :, k : k + x.shape[2]] for k in range(5))
    made: Float32 = (sum(rows[:, :, :, k : k + x.shape[3]] for k in range(5)) / 25).astype(np.float32)
    return made


class StubModel:
    """Predicts from the state, the enlarged input and the noise level, each pixel from its neighbourhood."""

    values = VALUES
    sampling = SAMPLING
    generates = False
    usual_lr = None
    notice_of_depth: str | None = None
    decoder = None
    channels = 3
    stride = 8
    agrees_when_decoded = False
    growth: Growth | None = None

    def __init__(
        self, *, largest_pixels: int | None = None, offset_per_window: bool = False, worth_fixing: int | None = None
    ) -> None:
        self.worth_fixing = worth_fixing
        self.largest_pixels = largest_pixels
        self.offset_per_window = offset_per_window
        self.windows: list[Size] = []
        self.kept: list[Keep] = []
        self.lent: list[StubLease] = []

    def refusal_of_blend(self) -> str | None:
        return "There is nothing to move."

    def refusal_of_turns(self) -> str | None:
        return None

    def turned(self, subject: "StubSubject", turn: Turn) -> "StubSubject":
        return StubSubject(np.ascontiguousarray(turned(subject._lr, turn)), subject._size)

    def subject(self, lr: Float32, size: Size, posterior: Any) -> "StubSubject":
        del posterior
        return StubSubject(lr, size)

    def state_size(self, lr: Size, size: Size) -> Size:
        del lr
        return size

    def rows(self, rows: Sequence[PlanRow]) -> tuple[PlanRow, ...]:
        return tuple(replace(row, feeds={"level": np.array([row.noise_level], np.float32)}) for row in rows)

    def predict(self, x: Float32, condition: Mapping[str, Any], row: PlanRow, keep: Keep = NOTHING_STAYS) -> Float32:
        self.kept.append(keep)
        if self.largest_pixels is not None and x.shape[2] * x.shape[3] > self.largest_pixels:
            raise OutOfMemory("too large a window")
        self.windows.append((x.shape[2], x.shape[3]))
        if self.offset_per_window:
            return np.full_like(x, condition["corner"])
        mixed = mean_5x5(x - row.feeds["level"] * condition["picture"])
        return (x - mean_5x5(mixed) * np.float32(0.5)).astype(np.float32)

    carries_state = False

    def lease(self) -> Any:
        self.lent.append(StubLease(self.windows))
        return self.lent[-1]

    def fixed_size_pays(self, pixels: int) -> bool:
        return self.worth_fixing is not None and pixels >= self.worth_fixing

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Any]:
        return StubSubject(np.zeros((1, 3, *lr), np.float32), size).condition(window)

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        del lr, size
        return iter(())

    def working_bytes(self, window: Size, batch: int) -> int:
        return 1000 * prod(window) * batch

    def condition_bytes(self, window: Size, batch: int) -> int:
        return 12 * prod(window) * batch

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        del lr, size, batch
        return 0

    def consistency_bytes(self, lr: Size, size: Size, batch: int) -> int:
        del size
        return 12 * batch * prod(lr)

    def open_engines(self) -> None:
        pass

    def refusal_of_consistency(self) -> str | None:
        return None

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        del lr, size
        return None


class StubLease:
    """After how many windows a run let go of what was kept, and gave back what it had."""

    def __init__(self, windows: list[Size]) -> None:
        self._windows = windows
        self.let_go_after: list[int] = []
        self.closed_after: int | None = None

    def let_go(self) -> None:
        self.let_go_after.append(len(self._windows))

    def close(self) -> None:
        self.closed_after = len(self._windows)


class StubSubject:
    def __init__(self, lr: Float32, size: Size) -> None:
        self._lr, self._size = lr, size

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        return self._lr.shape[0], 3, *self._size

    def condition(self, window: Window) -> dict[str, Any]:
        picture = resize_region(self._lr, self._size, (window.top, window.bottom), (window.left, window.right))
        # Neighbouring tiles differ by 1.
        corner = np.float32((window.top // 8 + window.left // 8) // 2 % 2)
        return {"picture": picture, "corner": corner}

    def first_guess(self, rows: slice) -> Float32:
        return resize_region(self._lr, self._size, (rows.start, rows.stop), (0, self._size[1]))

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        data_consistency(estimate, self._lr, strength)
        trim()

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        del room, consistency
        yield state
