"""The network's prediction for a whole state, made in one piece or in overlapping tiles within the step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from deploy.families.contract import Feeds, Keep, Subject
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Tiling, Window, strips_of_rows
from deploy.picture.memory import StateArrays
from deploy.picture.strips import RowsOfNoise
from deploy.sampling.plan import Plan, PlanRow
from deploy.sampling.step import steps_on_device
from deploy.sampling.turns import AS_IT_IS, Turn, turned
from engines.arrays import Float32
from engines.errors import OutOfMemory


@dataclass(frozen=True, kw_only=True)
class TileDone:
    """One tile of one step is done."""

    step_index: int
    tile: int  # how many are done in this step
    tiles: int


class Predictor:
    """Callable like the networks themselves, on states of any size, for one run; a context manager.

    The condition of a whole picture is made once; those of tiles are kept from step to step as far as `cache_bytes`
    go, and made again otherwise. When an engine runs out of memory the tiles are halved, `notice` is told, and the
    step goes on from its beginning: the state is only read here, so nothing is lost. steps: that it will be called for.
    Where a step turns the picture, its condition is made again, so that there is one at a time.
    """

    def __init__(
        self,
        model: Model,
        subject: Subject,
        steps: int,
        tiling: Tiling,
        arrays: StateArrays,
        *,
        cache_bytes: int,
        notice: Callable[[str], None],
        after_tile: Callable[[TileDone], None],
    ) -> None:
        self.tiling = tiling
        self._model = model
        self._subject = subject
        self._as_it_is = subject
        self._turn: Turn = AS_IT_IS
        self._steps = steps
        self._arrays = arrays
        self._cache_bytes = cache_bytes
        self._notice = notice
        self._after_tile = after_tile
        self._conditions: dict[Window, Feeds] = {}
        self._blended: Float32 | None = None
        self._lease = model.lease()
        self._keep = self._what_stays()

    def __call__(self, x: Float32, row: PlanRow, step_index: int) -> Float32:
        """The predicted noise of the whole state `x`. The result is valid until the next call."""
        self._turn_to(row.turn)
        while True:
            try:
                return turned(self._predict(turned(x, row.turn), row, step_index), row.turn)
            except (OutOfMemory, MemoryError):
                smaller = self.tiling.halved()
                if smaller is None:
                    raise
                self._conditions.clear()
                self._lease.let_go()
                # The next tiles must leave room for what made this one fail.
                self._cache_bytes //= 2
                self.tiling = smaller
                self._keep = self._what_stays()
                self._notice(f"memory ran out; going on in tiles of {smaller.tile} pixels")

    def follow(self, plan: Plan, x: Float32, noise: RowsOfNoise) -> Float32 | None:
        """The state after all steps, taken by an engine that carries it itself; None where step by step is the way.

        Which it is for tiles, for steps that turn the picture, for an engine without a device, and where this way ran
        out of memory or came to values that are no numbers: step by step finds a size that fits, or names the step.
        """
        if plan.turns or not (self.tiling.is_whole and self._model.carries_state):
            return None

        def begun(index: int) -> None:
            if index:
                self._after_tile(TileDone(step_index=index - 1, tile=1, tiles=1))

        height = x.shape[2]
        steps = steps_on_device(plan, lambda index: noise(index, slice(0, height)), begun)
        try:
            state = self._model.follow(x, self._condition(Window.whole(Size(*x.shape[2:]))), steps, self._keep)
        except (OutOfMemory, MemoryError):
            return None
        if not np.isfinite(state).all():
            return None
        self._after_tile(TileDone(step_index=len(plan) - 1, tile=1, tiles=1))
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What was kept for the next step is free, and other runs may have the engines closed."""
        self._conditions.clear()
        self._lease.close()
        self._blended = None

    def _turn_to(self, turn: Turn) -> None:
        """The next conditions are those of the picture turned so."""
        if turn != self._turn:
            self._conditions.clear()
            self._turn = turn
            self._subject = self._as_it_is if turn == AS_IT_IS else self._model.turned(self._as_it_is, turn)

    def _what_stays(self) -> Keep:
        """The condition of a whole picture; the size where all tiles have the same and there is enough to do."""
        heights, widths = (
            [stop - start for start, stop in spans] for spans in (self.tiling.row_spans, self.tiling.column_spans)
        )
        pixels = sum(heights) * sum(widths) * self._subject.state_shape[0] * self._steps
        same = len(set(heights)) == len(set(widths)) == 1
        return Keep(
            condition=self.tiling.is_whole,
            size=same and self._model.fixed_size_pays(pixels),
            lease=self._lease,
        )

    def _predict(self, x: Float32, row: PlanRow, step_index: int) -> Float32:
        if self.tiling.is_whole:
            window = Window.whole(Size(*x.shape[2:]))
            whole = np.ascontiguousarray(x)
            predicted = self._model.predict(whole, self._condition(window), row, self._keep)
            self._after_tile(TileDone(step_index=step_index, tile=1, tiles=1))
            return predicted
        if self._blended is None:
            self._blended = self._arrays.empty(x.shape)
        blended = self._blended
        for rows in strips_of_rows(x.shape):
            blended[:, :, rows] = 0.0
            self._arrays.trim()
        for tiles_done, (window, weights) in enumerate(self.tiling.windows(), start=1):
            part = np.ascontiguousarray(x[:, :, window.rows, window.columns])
            predicted = self._model.predict(part, self._condition(window), row, self._keep)
            predicted *= weights
            blended[:, :, window.rows, window.columns] += predicted
            self._arrays.trim()
            self._after_tile(TileDone(step_index=step_index, tile=tiles_done, tiles=len(self.tiling)))
        return blended

    def _condition(self, window: Window) -> Feeds:
        if window in self._conditions:
            return self._conditions[window]
        condition = self._subject.condition(window)
        bytes_held = sum(feed.nbytes for feeds in self._conditions.values() for feed in feeds.values())
        # That of a whole picture is needed in every step: letting it go in between would save nothing.
        if self.tiling.is_whole or bytes_held + sum(feed.nbytes for feed in condition.values()) <= self._cache_bytes:
            self._conditions[window] = condition
        return condition
