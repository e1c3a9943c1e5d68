"""The bundles of a worker process, and a picture from its file to the file of its result, as `infer` makes it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from deploy.bundle import Bundle
from deploy.errors import DeployError, SizeError, nearest_name
from deploy.folders.request import Crop, Request
from deploy.folders.settings import Settings
from deploy.images.reading import read_header
from deploy.images.sizes import Size, label_of_size
from deploy.images.writing import format_for
from deploy.picture.batches import layouts_of
from deploy.picture.files import enlarged_rows, result_of
from deploy.picture.kept_paces import kept_pace
from deploy.picture.options import RunOptions
from deploy.picture.pace import Timing
from deploy.picture.run import Progress, Sampled
from deploy.picture.stages import Course
from deploy.picture.upscaler import Upscaler
from deploy.serving.asked import Asked
from deploy.serving.views import preview_address

MOST_PREVIEWED = 4_000_000
"""Pixels of a result of which previews are made: of more, one would take longer than it is worth."""


class Unfit(DeployError):  # noqa: N818  a state of the service rather than an error of the client
    """A request that can never be served here: larger than the limits or the memory of this service."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of a request before it is made. own_bytes: of its work. seconds: None where nothing was timed."""

    lr: Size
    size: Size
    evaluations: int
    steps: int
    seconds: float | None
    bytes: int
    own_bytes: int
    preset: str
    format: str | None
    label: str

    def as_json(self) -> dict[str, Any]:
        """For the process that asked."""
        values = {name: getattr(self, name) for name in ("evaluations", "steps", "seconds", "bytes", "own_bytes")}
        values |= {"width": self.size.width, "height": self.size.height, "input": list(self.lr.for_user)}
        return values | {"preset": self.preset, "format": self.format, "label": self.label}


class Model:
    """One bundle that is served: its upscaler, and the times that pictures took."""

    def __init__(self, name: str, path: Path, *, engine: str, precision: str, threads: int | None, memory: int) -> None:
        self.name = name
        self.upscaler = Upscaler(Bundle.open(path), engine, precision, threads, memory)
        self._pace = kept_pace(self.upscaler.bundle, self.upscaler.choice)
        self._pacing = Lock()  # pictures are made on several threads

    def warm_up(self, lr: Size) -> None:
        """A small picture was made at twice its size: the engine is open, and the first client need not wait for it."""
        sampling = self.upscaler.sampling()
        pixels = np.zeros((*lr, 3), np.uint8)
        with self.upscaler.sampled(pixels, Size(2 * lr.height, 2 * lr.width), sampling) as sampled:
            sampled.pixels()

    def describe(self) -> dict[str, Any]:
        """What clients are told of it."""
        manifest, choice = self.upscaler.bundle.manifest, self.upscaler.choice
        presets = {}
        for name in manifest.presets:
            sampling = self.upscaler.sampling(Asked.of({"preset": name, "scale": 2}).request(Path("x"), 1).choices)
            plan = self.upscaler.session.plan(sampling)
            presets[name] = {
                "title": sampling.recipe(),
                "evaluations": len(plan) * sampling.draws,
                "equation": sampling.plan.equation,
                "steps": sampling.plan.steps,
            }
        return {
            "name": self.name,
            "title": manifest.source.get("file", self.name),
            "family": manifest.family,
            "scales": manifest.scale_range.get("trained"),
            "presets": presets,
            "default_preset": manifest.default_preset,
            "engine": choice.backend,
            "precision": choice.precision,
        }

    def look(self, request: Request, lr: Size, *, has_alpha: bool, format: str | None) -> Look:
        """What a picture of that size will be and take."""
        upscaler = self.upscaler
        size = request.output_size(lr)
        sampling = upscaler.sampling(request.choices)
        try:
            work = upscaler.work(lr, size, sampling, has_alpha=has_alpha)
            course = Course.of(lr, size, sampling)
            options = RunOptions(has_alpha=has_alpha)
            layouts = layouts_of(upscaler.session, course, 1, sampling, options, keeps_pixels=False)
        except SizeError as error:
            raise Unfit(str(error)) from error
        with self._pacing:
            seconds = self._pace.about(work, again=True)
        steps = len(upscaler.session.plan(sampling)) * len(course.stages) * course.draws
        return Look(
            lr=lr,
            size=size,
            evaluations=work.evaluations,
            steps=steps,
            seconds=seconds,
            bytes=max(layout.predicted_bytes for layout in layouts),
            own_bytes=max(layout.own_bytes for layout in layouts),
            preset=sampling.preset or "published",
            format=format,
            label=label_of_size(
                scale=request.scale,
                size=request.size,
                long_edge=request.long_edge,
                fit=request.fit,
                megapixels=request.megapixels,
            ),
        )

    def look_at(self, request: Request) -> Look:
        """The same by the header of the request's picture."""
        header = read_header(request.images[0])
        limit = request.max_pixels or 0
        if prod(header.size) > limit:
            raise Unfit(f"The picture has {header.size} = {prod(header.size)} pixels; this service takes {limit}.")
        lr = part_of(header.size, request.crop)
        record = format_for(None, header.format.name, is_lossless=header.is_lossless, saving=request.saving)
        return self.look(request, lr, has_alpha=header.has_alpha, format=record.name)

    def make(
        self,
        request: Request,
        target: Path,
        *,
        progress: Callable[[Progress], None],
        preview: Callable[[int, str], None] | None = None,
        every: int = 1,
    ) -> dict[str, Any]:
        """`target` is the file that `infer` would have written; returns what became of it."""
        began = time.perf_counter()
        source = request.open(request.images[0], None)
        size = request.output_size(source.size)
        result = result_of(source, size, request.saving)
        sampling = self.upscaler.sampling(request.choices)
        settings = Settings(self.upscaler, request, sampling)
        making = settings.making(result, 0)
        view = source.view
        work = self.upscaler.work(source.size, size, sampling, has_alpha=view.has_edges_of_alpha)
        with self._pacing:
            timing = Timing(self._pace, work)
        notices = self.upscaler.notices(source.size, size, sampling)

        step = 0

        def after_tile(done: Progress) -> None:
            nonlocal step
            step = done.step  # of all runs, where several make the picture
            timing.mark()
            progress(done)

        def after_step(_: int, sampled: Sampled) -> None:
            if preview is not None and step % every == 0 and prod(sampled.size) <= MOST_PREVIEWED:
                preview(step, preview_address(sampled.pixels()[0]))

        options = RunOptions(
            seed=request.seed,
            scratch=target.parent,
            keeps_pixels=not result.is_streamed,
            pixel_bytes=result.pixel_bytes,
            has_alpha=view.has_edges_of_alpha,
            progress=after_tile,
            preview=None if preview is None else after_step,
        )
        reading = time.perf_counter() - began
        with self.upscaler.sampled(view.values, size, sampling, options, view.alpha_seen) as sampled:
            rows = enlarged_rows(sampled, source, result.bits)
            result.write(target, rows, note=settings.note(making), provenance=settings.provenance(making))
            evaluations, sampling_seconds = sampled.evaluations, sampled.seconds
        with self._pacing:
            timing.finish()
        seconds = time.perf_counter() - began
        stages = {"reading": reading, "sampling": sampling_seconds, "writing": seconds - reading - sampling_seconds}
        return {
            "width": size.width,
            "height": size.height,
            "evaluations": evaluations,
            "seconds": seconds,
            "stages": stages,
            "bytes": target.stat().st_size,
            "format": result.format.name,
            "media_type": media_type(result.format.name),
            "suffix": result.format.suffixes[0],
            "notices": [*notices, *result.changes],
        }

    def close(self) -> None:
        """The engines' memory is free. Times of pictures that were made beside others are not kept for `infer`."""
        self.upscaler.close()


def model_named(models: dict[str, Model], name: str | None) -> Model:
    """The one of that name, the first where none was given."""
    if name is None:
        return next(iter(models.values()))
    if name not in models:
        raise DeployError(f"There is no model {name!r} here; the nearest is {nearest_name(name, models)!r}.")
    return models[name]


def part_of(size: Size, crop: Crop | None) -> Size:
    """The size of what is enlarged of a picture. SizeError where the crop is not inside it."""
    if crop is None:
        return size
    left, top, width, height = crop
    if left + width > size.width or top + height > size.height:
        raise SizeError(
            f"The crop {left},{top},{width},{height} reaches beyond the picture, which is {size}; choose one inside it."
        )
    return Size(height, width)


def media_type(format: str) -> str:
    """Of a format by its name in the table."""
    return f"image/{format}"
