"""A picture made by several runs: stages of magnification one after the other, the mean of several draws in each.

A thin layer above `deploy.picture.run`. What one run makes for the next, for a mean, or for a filter at the end is
collected as floats, nothing rounded, in memory or on disk. A picture of one stage and one draw is collected nowhere.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deploy.families.model import Model
from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import strips_of_rows
from deploy.picture.layout import Layout
from deploy.picture.memory import StateArrays
from deploy.picture.run import Preview, Progress, Sampled, sampled_batch
from deploy.sampling.choices import Sampling
from deploy.sampling.fitted import check_scale
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import Plan
from engines.arrays import Float32


class Stage(NamedTuple):
    """One enlargement by the network."""

    lr: Size
    size: Size


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a picture of `lr` gets to `size`: through the sizes of its stages, and from the last one by a filter."""

    lr: Size
    size: Size
    draws: int
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, lr: Size, size: Size, sampling: Sampling) -> "Course":
        """For a way to sample."""
        sizes = sampling.stages.sizes(lr, size)
        stages = tuple(Stage(*pair) for pair in zip((lr, *sizes), sizes, strict=False))
        if sampling.fitted is not None:
            for stage in stages:
                check_scale(sampling.fitted, max(after / before for before, after in zip(*stage, strict=True)))
        return cls(lr=lr, size=size, draws=sampling.draws, stages=stages)

    @property
    def filters(self) -> bool:
        """Whether a filter does what the stages leave."""
        return self.stages[-1].size != self.size

    @property
    def runs(self) -> int:
        """How often the whole plan is run."""
        return len(self.stages) * self.draws

    def collects(self, number: int) -> bool:
        """Whether the picture of a stage is collected, rather than streamed."""
        return self.draws > 1 or self.filters or number < len(self.stages) - 1

    def describe(self) -> str:
        """The sizes on the way, for people; empty where the network gets there in one go."""
        if len(self.stages) == 1 and not self.filters:
            return ""
        sizes = " then ".join(str(stage.size) for stage in self.stages)
        return f"the network to {sizes}{', then a filter' if self.filters else ''}"


class CollectedRows:
    """The rows of a picture that was collected, at its own size or enlarged by a filter (antialiased bicubic)."""

    def __init__(self, size: Size) -> None:
        self._size = size

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """`state` is the picture, (batch, 3, height, width), which agreed with its input when it was collected."""
        del room, consistency
        height, width = self._size
        for rows in strips_of_rows((*state.shape[:2], height, width)):
            if state.shape[2:] == self._size:
                yield state[:, :, rows]
            else:
                yield resize_region(state, self._size, (rows.start, rows.stop), (0, width))


def blank_rows(size: Size, enlarged: Size) -> Iterator[Float32]:
    """The rows of an empty picture as a filter enlarges them, for timing; the picture takes a row of memory."""
    empty = np.broadcast_to(np.zeros((1, 3, 1, size.width), np.float32), (1, 3, *size))
    yield from CollectedRows(enlarged).picture_rows(empty, 0)


@contextmanager
def sampled_in_stages(
    model: Model,
    lr: Float32,
    course: Course,
    plan: Plan,
    noise: NoiseSource,
    layouts: Sequence[Layout],
    *,
    grey: tuple[bool, ...],
    from_guess: bool,
    consistency: float,
    blend: float,
    scratch: Path,
    progress: Callable[[Progress], None],
    notice: Callable[[str], None],
    preview: Preview | None = None,
) -> Iterator[Sampled]:
    """The pictures of a batch (batch, 3, h, w) at the end of their course, to become pixels while the block runs.

    layouts: of each stage. grey: which of the pictures are.
    """
    works = [prod(model.state_size(*stage)) for stage in course.stages for _ in range(course.draws)]
    evaluations, seconds = 0, 0.0
    collected: Float32 | None = None
    with ExitStack() as stack:
        arrays = StateArrays()
        for number, (index, draw) in enumerate(product(range(len(course.stages)), range(course.draws))):
            stage, layout, source = course.stages[index], layouts[index], noise.of_run(index, draw, course.draws)
            if draw == 0 and index:
                assert collected is not None
                lr = collected
            subject = model.subject(lr, stage.size, source.posterior)
            with sampled_batch(
                model,
                subject if blend == 1 else model.blended(subject, blend),
                stage.size,
                plan,
                source,
                layout,
                from_guess=from_guess,
                consistency=consistency,
                scratch=scratch,
                progress=_counted(progress, works, number, seconds),
                notice=notice,
                preview=preview,
            ) as sampled:
                evaluations, seconds = evaluations + sampled.evaluations, seconds + sampled.seconds
                sampled = replace(sampled, evaluations=evaluations, seconds=seconds, grey=grey)
                if not course.collects(index):
                    yield sampled
                    return
                if draw == 0:
                    arrays = stack.enter_context(StateArrays(scratch if layout.picture_on_disk else None))
                    collected = arrays.empty((lr.shape[0], 3, *stage.size))
                assert collected is not None
                _collect(sampled, collected, arrays, draw, course.draws)
        if course.filters or course.draws > 1:
            assert collected is not None
            yield replace(sampled, state=collected, subject=CollectedRows(course.size), size=course.size, arrays=arrays)


def _collect(sampled: Sampled, collected: Float32, arrays: StateArrays, draw: int, draws: int) -> None:
    """A picture of a draw is added to `collected`, where their mean is after the last one."""
    top = 0
    for block in sampled.value_rows():
        part = collected[:, :, top : top + block.shape[2]]
        part[:] = block if draw == 0 else part + block
        if draw == draws - 1 and draws > 1:
            part /= np.float32(draws)
        top += block.shape[2]
        arrays.trim()


def _counted(
    progress: Callable[[Progress], None], works: Sequence[int], number: int, seconds: float
) -> Callable[[Progress], None]:
    """Progress of one run as part of all runs, whose steps take as long as `works` says."""
    if len(works) == 1:
        return progress

    def tell(done: Progress) -> None:
        progress(
            replace(
                done,
                step=number * done.steps + done.step,
                steps=len(works) * done.steps,
                seconds=seconds + done.seconds,
                weights=tuple(works),
            )
        )

    return tell
