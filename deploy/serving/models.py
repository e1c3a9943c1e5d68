"""The bundles of a worker process, and what is known of a request before its picture is made."""

from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from deploy.bundle import Bundle
from deploy.errors import DeployError, SizeError, nearest_name
from deploy.folders.request import Crop, Request
from deploy.images.reading import read_header
from deploy.images.sizes import Size, label_of_size, times_grown
from deploy.images.writing import format_for
from deploy.picture.batches import layouts_of
from deploy.picture.kept_paces import kept_pace
from deploy.picture.layout import Layout
from deploy.picture.options import RunOptions
from deploy.picture.pace import Timing
from deploy.picture.session import Session
from deploy.picture.stages import Course
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Sampling
from deploy.serving.asked import Asked

SHARE_FOR_SMALL = 0.25
MOST_FOR_SMALL = 1 << 30
"""Part of the memory, and bytes at most, that are kept from large pictures."""


class Unfit(DeployError):  # noqa: N818  a state of the service rather than an error of the client
    """A request that can never be served here: larger than the limits or the memory of this service."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of a request before it is made. own_bytes: of its work. seconds: None where nothing was timed.

    kind: the same for pictures that might be made together.
    """

    input: Size
    size: Size
    evaluations: int
    steps: int
    seconds: float | None
    bytes: int
    own_bytes: int
    preset: str
    format: str | None
    label: str
    kind: str

    def as_json(self) -> dict[str, Any]:
        """For the process that asked."""
        values = {name: getattr(self, name) for name in ("evaluations", "steps", "seconds", "bytes", "own_bytes")}
        values |= {"width": self.size.width, "height": self.size.height, "input": list(self.input.for_user)}
        return values | {"preset": self.preset, "format": self.format, "label": self.label, "kind": self.kind}


class Model:
    """One bundle that is served: its networks, the memory that pictures may take, and the times that they took.

    memory: bytes that the process may have resident. A part of it is kept from large pictures, which are cut into tiles
    as large as they may be, so that small ones find room beside them. device: the number of a GPU, None: as
    `engine_choice` has it.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        engine: str,
        precision: str,
        threads: int | None,
        memory: int,
        device: int | None = None,
    ) -> None:
        self.name = name
        self._kept_for_small = min(int(SHARE_FOR_SMALL * memory), MOST_FOR_SMALL)
        self.upscaler = Upscaler(Bundle.open(path), engine, precision, threads, memory - self._kept_for_small, device)
        session = self.upscaler.session
        self._of_small = Upscaler.of_session(
            Session(session.bundle, session.choice, memory=memory, graphs=session.graphs)
        )
        self.pace = kept_pace(self.upscaler.bundle, self.upscaler.choice)
        self.pacing = Lock()  # pictures are made on several threads

    def warm_up(self, lr: Size) -> None:
        """A small picture was made at twice its size: the engine is open and its pace known before a client comes."""
        sampling = self.upscaler.sampling()
        pixels, size = np.zeros((*lr, 3), np.uint8), Size(2 * lr.height, 2 * lr.width)
        for _ in range(2):  # the first one also wakes the engine
            timing = Timing(self.pace, self.upscaler.work(lr, size, sampling))
            options = RunOptions(progress=lambda _: timing.mark())  # noqa: B023  called in this round alone
            with self.upscaler.sampled(pixels, size, sampling, options) as sampled:
                sampled.pixels()
            timing.finish()

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
            "title": manifest.source.file,
            "family": manifest.family,
            "scales": manifest.scale_range.trained,
            "presets": presets,
            "default_preset": manifest.default_preset,
            "engine": choice.backend,
            "precision": choice.precision,
        }

    def look(self, request: Request, whole: Size, *, has_alpha: bool, format: str | None) -> Look:
        """What the request will make of a picture of that size, and take."""
        upscaler = self.upscaler
        lr = part_of(whole, request.crop)
        size = request.output_size(lr)
        sampling = upscaler.sampling(request.choices, times_grown(lr, size))
        try:
            work = upscaler.work(lr, size, sampling, has_alpha=has_alpha)
            layouts = self._layouts(lr, size, sampling, has_alpha=has_alpha)
        except SizeError as error:
            raise Unfit(str(error)) from error
        with self.pacing:
            seconds = self.pace.about(work, again=True)
        course = Course.of(lr, size, sampling)
        steps = len(upscaler.session.plan(sampling)) * len(course.stages) * course.draws
        return Look(
            input=whole,
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
            kind=sha256(f"{self.name} {lr} {size} {request.seed} {sampling} {has_alpha}".encode()).hexdigest()[:16],
        )

    def look_at(self, request: Request) -> Look:
        """The same by the header of the request's picture."""
        header = read_header(request.images[0])
        limit = request.max_pixels or 0
        if prod(header.size) > limit:
            raise Unfit(f"The picture has {header.size} = {prod(header.size)} pixels; this service takes {limit}.")
        record = format_for(None, header.format.name, is_lossless=header.is_lossless, saving=request.saving)
        return self.look(request, header.size, has_alpha=header.has_alpha, format=record.name)

    def upscaler_for(self, lr: Size, size: Size, sampling: Sampling, *, has_alpha: bool, count: int = 1) -> Upscaler:
        """The one that so many pictures of that size are made with: both make the same of a picture that is small."""
        layouts = self._layouts(lr, size, sampling, has_alpha=has_alpha)
        is_whole = all(layout.tiling.is_whole and not layout.state_on_disk for layout in layouts)
        own = count * max(layout.own_bytes for layout in layouts)
        return self._of_small if is_whole and own <= self._kept_for_small else self.upscaler

    def _layouts(self, lr: Size, size: Size, sampling: Sampling, *, has_alpha: bool) -> list[Layout]:
        options = RunOptions(has_alpha=has_alpha)
        course = Course.of(lr, size, sampling)
        return layouts_of(self.upscaler.session, course, 1, sampling, options, keeps_pixels=False)

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
