"""Files in, files out: what `idm-deploy infer` does with an open upscaler."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle.naming import stem_of_content_name
from deploy.errors import BundleError, DeployError, ImageError
from deploy.foreign.places import address_in
from deploy.images.files import ReadImage, check_output, read_image, write_image
from deploy.images.png import write_png_rows
from deploy.runtime.noise_source import NoiseSource
from deploy.runtime.run import Progress, Sampled
from deploy.runtime.settings import Choices, Sampling
from deploy.runtime.sizes import MAX_PIXELS, PixelSize, check_request, output_size
from deploy.runtime.upscaler import RunOptions, Upscaler
from engines.errors import EngineError

_LOG = logging.getLogger(__name__)

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
    seed: int = 0
    tile: int | None = None
    max_pixels: int | None = None  # of inputs and outputs; None: what is usual for each
    force: bool = False
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
        return self.output / name if len(self.images) > 1 or self.output.is_dir() else self.output

    def _suffix(self) -> str:
        if self.scale is not None:
            return f"x{self.scale:g}"
        return f"{self.size[0]}x{self.size[1]}" if self.size is not None else f"long{self.long_edge}"


def infer_pictures(upscaler: Upscaler, request: Request, *, say: Say, progress: Report) -> dict[str, Any]:
    """What was made, skipped and refused, ready for JSON. One picture's refusal does not stop the others."""
    if not request.images:
        raise BundleError(f"{upscaler.bundle.path} holds no sample picture; name the picture to enlarge.")
    sampling = upscaler.sampling(request.choices)
    check_request(scale=request.scale, size=request.size, long_edge=request.long_edge)
    NoiseSource(seed=request.seed, sample=0, images=())  # refuses an impossible seed, once for all pictures
    _refuse_same_targets(request)
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
    say(sampling.describe())
    for index, image in enumerate(request.images):
        target = request.target(image)
        if target.exists() and not request.force and not target.is_dir():
            say(f"{target} exists already and is left as it is; --force makes it again")
            report["skipped"].append(str(target))
            continue
        try:
            job = _Job(upscaler, request, sampling, say, _share_of(progress, index, len(request.images)))
            report["pictures"].append(job.run(image, target))
        except (DeployError, EngineError) as error:
            named = address_in(image) or str(image)
            _LOG.error("%s", error if named in str(error) else f"{named}: {error}")
            report["failed"].append({"input": str(image), "error": str(error)})
    if report["failed"] and len(request.images) > 1:
        names = ", ".join(row["input"] for row in report["failed"])
        _LOG.error("%d of %d pictures failed: %s", len(report["failed"]), len(request.images), names)
    return report


@dataclass(frozen=True)
class _Job:
    """One picture of a request."""

    upscaler: Upscaler
    request: Request
    sampling: Sampling
    say: Say
    progress: Callable[[Progress], None]

    def run(self, image: Path, target: Path) -> dict[str, Any]:
        began = time.perf_counter()
        read = self.request.read(image)
        size = self.request.output_size(read.size)
        check_output(target, size)
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
            write_sampled(sampled, target, grey=read.is_grey)
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


def write_sampled(sampled: Sampled, target: Path, *, grey: bool = False) -> None:
    """`target` holds the picture; PNG is written as its rows come, other formats need all of them.

    `grey`: the three channels are equal, and one is written.
    """
    height, width = sampled.size
    rows = (block[0, :, :, 0] if grey else block[0] for block in sampled.rows())
    if _is_streamed(target):
        write_png_rows(target, width, height, rows, grey=grey)
    else:
        write_image(np.concatenate(list(rows)), target)


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
