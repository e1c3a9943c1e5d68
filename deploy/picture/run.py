"""One batch from its low-resolution pictures to a finished state, and from there to pixels row by row."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from deploy.families.contract import Subject
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.values import Pixels, ValueRule, limited, pixels_from_network, rounded, unit_from_network
from deploy.picture.layout import Layout
from deploy.picture.memory import StateArrays
from deploy.picture.predictor import Predictor, TileDone
from deploy.picture.strips import Rows, run_in_strips, starting_state
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import Plan, PlanRow
from deploy.sampling.step import estimate_picture
from deploy.sampling.turns import turned
from engines.arrays import Float32

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a call of `upscale` or `generate` is, told after each tile of each step.

    step: of `steps`, the one that the tile belongs to, from 1. tile: how many of its `tiles` are done, from 1; there
    is one where the picture is made in one piece. seconds: since the first step began. pictures: that were asked for,
    of which `finished` were done before and `at_once` are being made together. weights: of a picture that several runs
    make (stages, draws), how long a step of each takes beside the others; the steps are those of all runs. parts: how
    often all of these are taken, twice where pictures are transparent, of which `part` were before.
    """

    step: int
    steps: int
    tile: int
    tiles: int
    seconds: float
    pictures: int = 1
    finished: int = 0
    at_once: int = 1
    weights: tuple[float, ...] = ()
    part: int = 0
    parts: int = 1

    @property
    def fraction(self) -> float:
        """From 0 to 1: 1 when the last step of the last picture is done. Decoding a latent comes after that."""
        of_these = (self.step - 1 + self.tile / self.tiles) / self.steps
        if self.weights:
            begun = of_these * len(self.weights)  # runs, the last of them in part
            run = min(int(begun), len(self.weights) - 1)
            of_these = (sum(self.weights[:run]) + (begun - run) * self.weights[run]) / sum(self.weights)
        of_these = (self.part + of_these) / self.parts
        return (self.finished + self.at_once * of_these) / self.pictures

    @property
    def seconds_left(self) -> float:
        """At the pace so far."""
        return self.seconds * (1.0 / self.fraction - 1.0)

    def of_list(self, pictures: int, finished: int, at_once: int, seconds: float) -> "Progress":
        """This progress as part of a call that makes several pictures."""
        return replace(self, pictures=pictures, finished=finished, at_once=at_once, seconds=seconds)


class MakesRows(Protocol):
    """What turns a finished state into a picture: a subject, or what stands for one."""

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """As `Subject.picture_rows`."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A finished state on its way to pixels."""

    state: Float32
    evaluations: int
    seconds: float
    tile: int | None  # side of the tiles; None: the whole picture at once
    size: Size
    values: ValueRule
    subject: MakesRows
    arrays: StateArrays
    decode_bytes: int
    consistency: float = 0.0  # that its rows are yet to get
    grey: tuple[bool, ...] = ()  # which of the batch were made of grey pictures; (): none
    alphas: tuple[Float32 | None, ...] = ()  # (height, width) of each transparent picture, as the network made it

    def alpha(self, index: int) -> Float32 | None:
        """That of one picture of the batch, if the network made it."""
        return self.alphas[index] if self.alphas else None

    def rows(self) -> Iterator[Pixels]:
        """Rows of the pictures from top to bottom, uint8 (batch, rows, width, 3)."""
        # Levels that are cut off rather than rounded would move a corrected picture away from its input again.
        values = rounded(self.values) if self.consistency else self.values
        for block in self._blocks():
            yield pixels_from_network(block, values, grey=self.grey)
            self.arrays.trim()

    def unit_rows(self) -> Iterator[Float32]:
        """The same rows before they are rounded to 8 bits, (batch, rows, width, 3), 0 to 1."""
        for block in self._blocks():
            yield unit_from_network(block, grey=self.grey)
            self.arrays.trim()

    def value_rows(self) -> Iterator[Float32]:
        """The same rows as the network sees pictures, limited to [-1, 1], (batch, 3, rows, width)."""
        for block in self._blocks():
            yield limited(block, self.grey)
            self.arrays.trim()

    def _blocks(self) -> Iterator[Float32]:
        return self.subject.picture_rows(self.state, self.decode_bytes, self.consistency)

    def at_size(self, subject: MakesRows, size: Size) -> "Sampled":
        """The finished state on its way to another size, which `subject` knows how to decode."""
        return replace(self, subject=subject, size=size)

    def pixels(self) -> list[Pixels]:
        """Each picture, uint8 (height, width, 3)."""
        whole = np.empty((self.state.shape[0], *self.size, 3), np.uint8)
        top = 0
        for block in self.rows():
            whole[:, top : top + block.shape[1]] = block
            top += block.shape[1]
        return list(whole)


Preview = Callable[[int, Sampled], None]
"""Is shown a picture in the making after a step."""


@contextmanager
def sampled_batch(
    model: Model,
    subject: Subject,
    size: Size,
    plan: Plan,
    noise: NoiseSource,
    layout: Layout,
    *,
    from_guess: bool = False,
    consistency: float = 0.0,
    scratch: Path,
    progress: Callable[[Progress], None],
    notice: Callable[[str], None],
    watch: Callable[[Float32, PlanRow, Float32], None] | None = None,
    preview: Preview | None = None,
) -> Iterator[Sampled]:
    """The sampled state of the subject's pictures, to become pixels at `size`, alive while the block runs.

    `watch(x, row, predicted)` is called at every step with what the network was given and the noise that it predicted,
    both valid during the call. `preview(step, sampled)` is given what would come out if that step, from 1, were the
    last: a picture that can be decoded during the call. An engine that carries the state itself lets it go for both.
    """
    began = time.perf_counter()

    def tell(done: TileDone) -> None:
        seconds = time.perf_counter() - began
        step = done.step_index + 1
        _LOG.debug("step %d of %d, tile %d of %d, after %.2f s", step, len(plan), done.tile, done.tiles, seconds)
        progress(Progress(step=step, steps=len(plan), tile=done.tile, tiles=done.tiles, seconds=seconds))

    _LOG.info(
        "%d steps on a state of %s, in tiles of %d, the state %s, predicted to take %d bytes",
        len(plan),
        "x".join(map(str, subject.state_shape)),
        layout.tiling.tile,
        "on disk" if layout.state_on_disk else "in memory",
        layout.predicted_bytes,
    )
    with StateArrays(scratch if layout.state_on_disk else None) as arrays:
        shape = subject.state_shape
        plan = replace(plan, rows=model.rows(plan.rows))

        def noise_rows(step_index: int, rows: Rows) -> Float32:
            return noise.rows(shape, step_index, rows)

        of_estimates = 0.0 if model.agrees_when_decoded else consistency

        def make_consistent(estimate: Float32) -> None:
            subject.make_consistent(estimate, of_estimates, arrays.trim)

        with Predictor(
            model,
            subject,
            len(plan),
            layout.tiling,
            arrays,
            cache_bytes=layout.cache_bytes,
            notice=notice,
            after_tile=tell,
        ) as predict:
            state = starting_state(plan, shape, arrays, noise_rows, subject.first_guess if from_guess else None)

            def finished(state: Float32) -> Sampled:
                return Sampled(
                    state=state,
                    evaluations=len(plan),
                    seconds=time.perf_counter() - began,
                    tile=None if predict.tiling.is_whole else predict.tiling.tile,
                    size=size,
                    values=model.values,
                    subject=subject,
                    arrays=arrays,
                    decode_bytes=layout.decode_bytes,
                    consistency=consistency - of_estimates,
                )

            def predicted_noise(x: Float32, row: PlanRow, step_index: int) -> Float32:
                predicted = predict(x, row, step_index)
                if watch is not None:
                    watch(turned(x, row.turn), row, turned(predicted, row.turn))
                if preview is not None and not layout.state_on_disk:
                    preview(step_index + 1, finished(_estimate(x, row, predicted)))
                return predicted

            interrupted = of_estimates or watch is not None or preview is not None
            carried = None if interrupted else predict.follow(plan, state, noise_rows)
            if carried is not None:
                state = carried
            else:
                run_in_strips(
                    plan,
                    predicted_noise,
                    state,
                    arrays,
                    noise_rows,
                    adjust_estimate=make_consistent if of_estimates else None,
                )
        yield finished(state)


def _estimate(x: Float32, row: PlanRow, predicted: Float32) -> Float32:
    """The picture that a step takes its input for, limited as its row says."""
    estimate, scratch = np.empty_like(x), np.empty_like(x)
    estimate_picture(row, x, predicted, out=estimate, scratch=scratch)
    return np.clip(estimate, -1, 1) if row.clip else estimate
