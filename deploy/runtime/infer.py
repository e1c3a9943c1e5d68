"""Files in, files out: what `idm-deploy infer` does with an open upscaler."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle.naming import stem_of_content_name
from deploy.chosen_engine import AUTO
from deploy.errors import DeployError, ImageError
from deploy.foreign.places import address_in
from deploy.images.files import (
    FORMAT_FROM_SUFFIX,
    ReadImage,
    check_folder,
    check_format,
    make_folder,
    read_image,
    write_image,
)
from deploy.images.png import write_png_rows
from deploy.runtime.existing import Making, forms_that_will_do, note_of_existing
from deploy.runtime.noise_source import NoiseSource
from deploy.runtime.run import Progress, Sampled
from deploy.runtime.settings import Choices, Sampling
from deploy.runtime.sizes import MAX_PIXELS, PixelSize, check_request, output_size
from deploy.runtime.upscaler import RunOptions, Upscaler
from engines.errors import EngineError

Say = Callable[[str], None]
Report = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which pictures, how large, where to, and how."""

    images: tuple[Path, ...]
    are_samples: bool = False  # the bundle's own pictures, in whose file names a hash follows the name
    scale: float | None = None
    size: PixelSize | None = None
    long_edge: int | None = None
    output: Path | None = None
    output_is_folder: bool = False  # `output` was said to be one, and is made if it is not there
    seed: int = 0
    tile: int | None = None
    max_pixels: int | None = None  # of inputs and outputs; None: what is usual for each
    force: bool = False
    precision: str = AUTO  # as it was asked for: "auto" takes what was made in any
    choices: Choices = field(default_factory=Choices)

    def output_size(self, lr: PixelSize) -> PixelSize:
        """(width, height) of the result for an input of that size."""
        limit = MAX_PIXELS if self.max_pixels is None else self.max_pixels
        return output_size(lr, scale=self.scale, size=self.size, long_edge=self.long_edge, max_pixels=limit)

    def read(self, image: Path) -> ReadImage:
        """The pixels of an input."""
        return read_image(image) if self.max_pixels is None else read_image(image, max_pixels=self.max_pixels)

    def target(self, image: Path) -> Path:
        """Where the result of `image` goes: beside the user, or where `output` says."""
        stem = (stem_of_content_name(image.name) if self.are_samples else None) or image.stem
        name = f"{stem}_{self._suffix()}.png"
        if self.output is None:
            return Path(name)
        return self.output / name if self.goes_into_a_folder() else self.output

    def goes_into_a_folder(self) -> bool:
        """Whether `output` names the folder of the results rather than the only one."""
        return self.output is not None and (self.output_is_folder or len(self.images) > 1 or self.output.is_dir())

    def _suffix(self) -> str:
        if self.scale is not None:
            return f"x{self.scale:g}"
        return f"{self.size[0]}x{self.size[1]}" if self.size is not None else f"long{self.long_edge}"


def infer_pictures(upscaler: Upscaler, request: Request, *, say: Say, progress: Report) -> dict[str, Any]:
    """What was made, skipped and refused, ready for JSON. One picture's refusal does not stop the others."""
    if not request.images:
        raise ImageError("There is no picture to enlarge: name one.")
    sampling = upscaler.sampling(request.choices)
    check_request(scale=request.scale, size=request.size, long_edge=request.long_edge)
    NoiseSource(seed=request.seed, sample=0, images=())  # refuses an impossible seed, once for all pictures
    _refuse_same_targets(request)
    refused, notes = _check_targets(request)
    report: dict[str, Any] = {
        "bundle": str(upscaler.bundle.path),
        "engine": upscaler.choice.backend,
        "precision": upscaler.choice.precision,
        "seed": request.seed,
        "sampling": asdict(sampling),
        "pictures": [],
        "skipped": [],
        "failed": [],
    }

    def refuse(image: Path, error: Exception) -> None:
        named = address_in(image) or str(image)
        say(f"idm-deploy: {error}" if named in str(error) else f"idm-deploy: {named}: {error}")
        report["failed"].append({"input": str(image), "error": str(error)})

    for image, error in refused.items():
        refuse(image, error)
    images = [image for image in request.images if image not in refused]
    if images:
        say(sampling.describe())
    for index, image in enumerate(images):
        target = request.target(image)
        try:
            job = _Job(upscaler, request, sampling, say, _share_of(progress, index, len(images)))
            made = job.run(image, target, notes[image])
        except (DeployError, EngineError) as error:
            refuse(image, error)
            continue
        if made is None:
            report["skipped"].append(str(target))
        else:
            report["pictures"].append(made)
    if report["failed"] and len(request.images) > 1:
        names = ", ".join(row["input"] for row in report["failed"])
        say(f"{len(report['failed'])} of {len(request.images)} pictures failed: {names}")
    return report


@dataclass(frozen=True)
class _Job:
    """One picture of a request."""

    upscaler: Upscaler
    request: Request
    sampling: Sampling
    say: Say
    progress: Callable[[Progress], None]

    def run(self, image: Path, target: Path, note: bytes | None) -> dict[str, Any] | None:
        """What was made; None if that is there already. `note` is that of the picture in its place, if there is one."""
        began = time.perf_counter()
        read = self.request.read(image)
        size = self.request.output_size(read.size)
        check_format(target, size)
        making = Making.of(
            self.upscaler,
            read.pixels,
            size,
            self.sampling,
            seed=self.request.seed,
            tile=self.request.tile,
            grey=read.is_grey,
        )
        if note is not None and self._is_there(target, making, note):
            return None
        self._announce(image, target, read.size, size)
        if read.changes:
            self.say(f"{image}: {'; '.join(read.changes)}")
        options = RunOptions(
            seed=self.request.seed,
            tile=self.request.tile,
            scratch=target.resolve().parent,
            keeps_pixels=not _is_streamed(target),
            progress=self.progress,
            notice=self.say,
        )
        with self.upscaler.sampled(read.pixels, size, self.sampling, options) as sampled:
            write_sampled(sampled, target, making.note(), grey=read.is_grey)
            return {
                "input": str(image),
                "output": str(target),
                "width": size[0],
                "height": size[1],
                "evaluations": sampled.evaluations,
                "tile": sampled.tile,
                "seconds": round(time.perf_counter() - began, 3),
                "changes": list(read.changes),
            }

    def _is_there(self, target: Path, making: Making, note: bytes) -> bool:
        """Whether the picture with this note is the one that is asked for, which is said either way."""
        forms = forms_that_will_do(self.upscaler.bundle.manifest, self.request.precision, making.form)
        differences = making.differences(note, forms)
        if differences:
            self.say(f"{target} was made {', '.join(differences)}: it is made again")
        else:
            self.say(f"{target} exists already, made from the same picture and settings; --force makes it again")
        return not differences

    def _announce(self, image: Path, target: Path, lr: PixelSize, size: PixelSize) -> None:
        """Sizes and the time it will take, before the work."""
        expected = self.upscaler.forecast(lr, size, self.sampling, self.request.tile)
        choice = self.upscaler.choice
        self.say(
            f"{image} {lr[0]}x{lr[1]} -> {target} {size[0]}x{size[1]}: about {text_from_seconds(expected.seconds)} on "
            f"{choice.backend} {choice.precision}"
            + (f" in {expected.tiles} tiles of {expected.tile}" if expected.tile else "")
            + ", judging by small evaluations"
        )
        for told in self.upscaler.notices(lr, size, self.sampling):
            self.say(told)


def write_sampled(sampled: Sampled, target: Path, note: bytes, *, grey: bool = False) -> None:
    """`target` holds the picture and the note; PNG is written as its rows come, other formats need all of them.

    `grey`: the three channels are equal, and one is written.
    """
    height, width = sampled.size
    rows = (block[0, :, :, 0] if grey else block[0] for block in sampled.rows())
    if _is_streamed(target):
        write_png_rows(target, width, height, rows, grey=grey, note=note)
    else:
        write_image(np.concatenate(list(rows)), target, note=note)


def _is_streamed(target: Path) -> bool:
    return target.suffix.lower() == ".png"


def text_from_seconds(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _share_of(progress: Report, index: int, images: int) -> Callable[[Progress], None]:
    def tell(done: Progress) -> None:
        parts = [f"image {index + 1}/{images}"] if images > 1 else []
        parts.append(f"step {done.step}/{done.steps}")
        if done.tiles > 1:
            parts.append(f"tile {done.tile}/{done.tiles}")
        progress(", ".join(parts), (index + done.fraction) / images)

    return tell


def _check_targets(request: Request) -> tuple[dict[Path, ImageError], dict[Path, bytes | None]]:
    """The pictures whose place something else has taken, and the notes of results that are there; before any work."""
    if request.output is not None and request.goes_into_a_folder():
        _make_folder(request.output, is_said=request.output_is_folder)
    # All of them go into one folder.
    check_format(request.target(request.images[0]))
    check_folder(request.target(request.images[0]))
    refused: dict[Path, ImageError] = {}
    notes: dict[Path, bytes | None] = {}
    for image in request.images:
        try:
            notes[image] = note_of_existing(request.target(image), force=request.force)
        except ImageError as error:
            refused[image] = error
    return refused, notes


def _make_folder(folder: Path, *, is_said: bool) -> None:
    if folder.suffix.lower() in FORMAT_FROM_SUFFIX and not is_said and not folder.is_dir():
        raise ImageError(f"{folder} names one picture, but several are to be written; name a folder with -o.")
    make_folder(folder)


def _refuse_same_targets(request: Request) -> None:
    """Two pictures of the same name must not overwrite each other's result."""
    seen: dict[Path, Path] = {}
    for image in request.images:
        target = request.target(image)
        if target in seen:
            raise ImageError(
                f"{seen[target]} and {image} would both be written to {target}; enlarge them into different folders."
            )
        if image.exists() and target.exists() and image.samefile(target):
            raise ImageError(f"{image} would be overwritten by its own enlargement; choose another name with -o.")
        seen[target] = image
