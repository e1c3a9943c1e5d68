"""Pictures from their files to the files of their results, as `infer` makes them, alone or several at once."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from deploy.folders.batches import FASTER_FROM, LARGEST_WHOLE
from deploy.folders.request import Request
from deploy.folders.settings import Settings
from deploy.images.picture import Samples
from deploy.images.sizes import times_grown
from deploy.picture.enlarged import samples_of_batch
from deploy.picture.files import Result, enlarged_rows, result_of
from deploy.picture.options import RunOptions
from deploy.picture.pace import Timing
from deploy.picture.run import Preview, Progress, Sampled
from deploy.serving.batches import SIZES
from deploy.serving.models import Model
from deploy.serving.views import preview_address
from engines.arrays import Float32

MOST_PREVIEWED = 4_000_000
"""Pixels of a result of which previews are made: of more, one would take longer than it is worth."""


CLEAR = 1.25
"""Times by which together must be faster than alone for a single round to tell."""

ROUNDS = 2
"""Of a trial that is not clear."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A picture to be made. check: raises where nobody wants it any more. preview: is shown it, every few steps."""

    request: Request
    target: Path
    check: Callable[[], None]
    progress: Callable[[Progress], None]
    preview: Callable[[int, str], None] | None = None
    every: int = 1


class Made:
    """A picture on its way from its file to that of its result."""

    def __init__(self, model: Model, order: Order) -> None:
        self._began = time.perf_counter()
        self._model = model
        self.order = order
        request = order.request
        source = request.open(request.images[0], None)
        size = request.output_size(source.size)
        self.sampling = model.upscaler.sampling(request.choices, times_grown(source.size, size))
        self.result: Result = result_of(source, size, request.saving)
        self._reading = time.perf_counter() - self._began

    def kind(self) -> tuple[object, ...]:
        """The same for pictures that can be made together: as `deploy.folders.batches` has it."""
        source, result = self.result.source, self.result
        view = source.view
        can_be = source.picture.bits == result.bits and prod(result.size) <= LARGEST_WHOLE
        can_be = can_be and not self._model.upscaler.has_faster_tiles(source.size, result.size, self.sampling)
        seed = self.order.request.seed
        same = (source.size, result.size, result.bits, view.is_plain, view.has_edges_of_alpha, self.sampling, seed)
        return same if can_be else (id(self),)

    def options(self, progress: Callable[[Progress], None], preview: Preview | None = None) -> RunOptions:
        """Of a run that makes it."""
        view = self.result.source.view
        return RunOptions(
            seed=self.order.request.seed,
            scratch=self.order.target.parent,
            keeps_pixels=not self.result.is_streamed,
            pixel_bytes=self.result.pixel_bytes,
            has_alpha=view.has_edges_of_alpha,
            progress=progress,
            preview=preview,
        )

    def write(self, rows: Iterator[Samples], *, evaluations: int, sampling_seconds: float) -> dict[str, Any]:
        """The result is in its file; returns what became of it."""
        order, result = self.order, self.result
        settings = Settings(self._model.upscaler, order.request, self.sampling)
        making = settings.making(result, 0)
        note, provenance = settings.note(making), settings.provenance(making)
        began = time.perf_counter()
        result.write(order.target, self._wanted(rows), note=note, provenance=provenance)
        ended = time.perf_counter()
        stages = {"reading": self._reading, "sampling": sampling_seconds, "writing": ended - began}
        notices = self._model.upscaler.notices(result.source.size, result.size, self.sampling)
        return {
            "width": result.size.width,
            "height": result.size.height,
            "evaluations": evaluations,
            "seconds": ended - self._began,
            "stages": stages,
            "bytes": order.target.stat().st_size,
            "format": result.format.name,
            "media_type": f"image/{result.format.name}",
            "suffix": result.format.suffixes[0],
            "notices": [*notices, *result.changes],
        }

    def _wanted(self, rows: Iterator[Samples]) -> Iterator[Samples]:
        for block in rows:
            self.order.check()
            yield block


def make_alone(model: Model, made: Made, turn: AbstractContextManager[Any]) -> dict[str, Any]:
    """The file of a result is written; returns what became of it. Its times are learnt. turn: held while it samples."""
    order, source, size = made.order, made.result.source, made.result.size
    view = source.view
    has_alpha = view.has_edges_of_alpha
    work = model.upscaler.work(source.size, size, made.sampling, has_alpha=has_alpha)
    upscaler = model.upscaler_for(source.size, size, made.sampling, has_alpha=has_alpha)
    step = 0

    def after_tile(done: Progress) -> None:
        nonlocal step
        step = done.step  # of all runs, where several make the picture
        timing.mark()
        order.check()
        order.progress(done)

    def after_step(_: int, sampled: Sampled) -> None:
        if order.preview is not None and step % order.every == 0 and prod(sampled.size) <= MOST_PREVIEWED:
            order.preview(step, preview_address(sampled.pixels()[0]))

    options = made.options(after_tile, None if order.preview is None else after_step)
    with ExitStack() as stack:
        with turn:
            order.check()
            with model.pacing:
                timing = Timing(model.pace, work)
            sampled = stack.enter_context(upscaler.sampled(view.values, size, made.sampling, options, view.alpha_seen))
        rows = enlarged_rows(sampled, source, made.result.bits)
        what = made.write(rows, evaluations=sampled.evaluations, sampling_seconds=sampled.seconds)
    with model.pacing:
        timing.finish()
    return what


def pixels_together(model: Model, group: Sequence[Made]) -> tuple[list[Samples], int, float]:
    """The pixels of pictures of one kind that were made at once, the evaluations of each, and the seconds of all."""

    def after_tile(done: Progress) -> None:
        for made in group:
            made.order.progress(done)
        if not any(_is_wanted(made) for made in group):
            group[0].order.check()

    with _sampled_together(model, group, after_tile) as sampled:
        views = [made.result.source.view for made in group]
        return samples_of_batch(sampled, views), sampled.evaluations, sampled.seconds


def count_that_pays(model: Model, group: Sequence[Made]) -> int:
    """How many pictures of one kind to make at once: the most of SIZES that is faster here and gives the same bytes.

    By trying it, with some pictures twice where there are fewer. 1: none is. A round that is not clear is made
    again, and the fastest of each is compared: what other programs do meanwhile makes either slower, and never faster.
    """
    alone: list[Values] = []
    alone_seconds = math.inf  # of one picture
    for count in SIZES:
        members = [group[number % len(group)] for number in range(count)]
        _values_together(model, members)  # engines make room for this size, once
        seconds = math.inf
        for _ in range(ROUNDS):
            began = time.perf_counter()
            together = _values_together(model, members)
            middle = time.perf_counter()
            if not alone or seconds < math.inf:
                alone = [_values_together(model, [made])[0] for made in group]
                alone_seconds = min(alone_seconds, (time.perf_counter() - middle) / len(group))
            seconds = min(seconds, (middle - began) / count)
            if CLEAR * seconds < alone_seconds:
                break
        same = all(_are_equal(alone[number % len(group)], values) for number, values in enumerate(together))
        if same and seconds < FASTER_FROM * alone_seconds:
            return count
    return 1


Values = tuple[Float32, Float32 | None]
"""A picture as the network made it, before it is rounded, and its transparency."""


def _values_together(model: Model, group: Sequence[Made]) -> list[Values]:
    """Pictures that were made at once for a trial, of which nobody is told."""

    def after_tile(_: Progress) -> None:
        if not any(_is_wanted(made) for made in group):
            group[0].order.check()

    with _sampled_together(model, group, after_tile) as sampled:
        whole = np.concatenate(list(sampled.unit_rows()), axis=1)
        return [(values, sampled.alpha(number)) for number, values in enumerate(whole)]


def _are_equal(one: Values, other: Values) -> bool:
    return all(np.array_equal(np.asarray(mine), np.asarray(its)) for mine, its in zip(one, other, strict=True))


@contextmanager
def _sampled_together(model: Model, group: Sequence[Made], after_tile: Callable[[Progress], None]) -> Iterator[Sampled]:
    first = group[0]
    views = [made.result.source.view for made in group]
    inputs, alphas = [view.values for view in views], [view.alpha_seen for view in views]
    lr, size = first.result.source.size, first.result.size
    has_alpha = any(alpha is not None for alpha in alphas)
    upscaler = model.upscaler_for(lr, size, first.sampling, has_alpha=has_alpha, count=len(group))
    with upscaler.sampled_together(inputs, size, first.sampling, first.options(after_tile), alphas) as sampled:
        yield sampled


def _is_wanted(made: Made) -> bool:
    try:
        made.order.check()
    except Exception:  # whatever says that it is not
        return False
    return True
