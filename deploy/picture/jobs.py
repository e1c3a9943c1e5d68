"""Files in, files out: what `idm-deploy infer` does with an open upscaler."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from deploy.bundle.naming import stem_of_content_name
from deploy.engine.chosen import AUTO
from deploy.errors import DeployError, ImageError
from deploy.foreign.places import address_in
from deploy.images.files import make_folder, read_size
from deploy.images.formats.table import WRITTEN_SUFFIXES
from deploy.images.reading import read_header
from deploy.images.sizes import MAX_PIXELS, PixelSize, check_request, output_size
from deploy.images.writing import Saving, check_folder, check_format, format_for
from deploy.picture.existing import Making, forms_that_will_do, note_of_existing
from deploy.picture.files import Source, enlarged_rows, open_source, result_of, result_suffix
from deploy.picture.kept_paces import keep_pace, kept_pace
from deploy.picture.outlook import Outlook
from deploy.picture.pace import Timing, Work
from deploy.picture.run import Progress
from deploy.picture.upscaler import RunOptions, Upscaler
from deploy.sampling.choices import Choices, Sampling
from deploy.sampling.noise_source import NoiseSource
from engines.errors import EngineError

_LOG = logging.getLogger(__name__)

Say = Callable[[str], None]
Report = Callable[[str, float], None]

LONG = 10.0
"""Seconds from which a picture is announced although one like it was, and from which a wrong forecast is corrected."""

CORRECTED_FROM = 1.5
"""How many times too long or too short a forecast must have been to be corrected aloud."""


class Input(NamedTuple):
    """A file to enlarge; frame: the one of several that is meant, None where nobody said."""

    path: Path
    frame: int | None = None

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path} frame {self.frame + 1}"


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
    saving: Saving = field(default_factory=Saving)
    all_frames: bool = False  # of files that hold several pictures, rather than the first

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """The pictures one by one."""
        found: list[Input] = []
        for image in self.images:
            count = _frames_of(image) if self.all_frames else 1
            found += [Input(image)] if count == 1 else [Input(image, frame) for frame in range(count)]
        return tuple(found)

    def output_size(self, lr: PixelSize) -> PixelSize:
        """(width, height) of the result for an input of that size."""
        limit = MAX_PIXELS if self.max_pixels is None else self.max_pixels
        return output_size(lr, scale=self.scale, size=self.size, long_edge=self.long_edge, max_pixels=limit)

    def open(self, image: Input) -> Source:
        """An input as the network sees it."""
        return open_source(image.path, self.saving, frame=image.frame, max_pixels=self.max_pixels)

    @property
    def named(self) -> Path | None:
        """The file that was named for the only result."""
        return None if self.goes_into_a_folder() else self.output

    def target(self, image: Input) -> Path:
        """Where the result of `image` goes: beside the user, or where `output` says."""
        if self.named is not None:
            return self.named
        path = image.path
        stem = (stem_of_content_name(path.name) if self.are_samples else None) or path.stem
        number = "" if image.frame is None else f"_{image.frame + 1:04d}"
        name = f"{stem}{number}_{self._suffix()}{self._suffixes[path]}"
        return Path(name) if self.output is None else self.output / name

    def goes_into_a_folder(self) -> bool:
        """Whether `output` names the folder of the results rather than the only one."""
        return self.output is not None and (self.output_is_folder or len(self.inputs) > 1 or self.output.is_dir())

    @cached_property
    def _suffixes(self) -> dict[Path, str]:
        return {image: result_suffix(image, self.saving) for image in self.images}

    def _suffix(self) -> str:
        if self.scale is not None:
            return f"x{self.scale:g}"
        return f"{self.size[0]}x{self.size[1]}" if self.size is not None else f"long{self.long_edge}"


def _frames_of(image: Path) -> int:
    try:
        return read_header(image).frames
    except DeployError:
        return 1  # told when its turn comes


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

    def refuse(image: Input, error: Exception) -> None:
        named = address_in(image.path) or str(image.path)
        _LOG.error("%s", error if named in str(error) else f"{named}: {error}")
        report["failed"].append({"input": str(image), "error": str(error)})

    for image, error in refused.items():
        refuse(image, error)
    if notes:
        say(sampling.describe())
    run = _Run(upscaler, request, sampling, notes, say, progress)
    for index, image in enumerate(request.inputs):
        if image in refused:
            continue
        target = request.target(image)
        try:
            made = run.make(index, image, target)
        except (DeployError, EngineError) as error:
            refuse(image, error)
            continue
        if made is None:
            report["skipped"].append(str(target))
        else:
            report["pictures"].append(made)
    if report["failed"] and len(request.inputs) > 1:
        names = ", ".join(row["input"] for row in report["failed"])
        _LOG.error("%d of %d pictures failed: %s", len(report["failed"]), len(request.inputs), names)
    return report | run.finish()


class _Run:
    """The pictures of a request one after another, and what is told of them and of the time they take.

    `notes`: of each picture that can be written, what the result that is there says of its making; None: there is none.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        request: Request,
        sampling: Sampling,
        notes: Mapping[Input, bytes | None],
        say: Say,
        progress: Report,
    ) -> None:
        began = time.perf_counter()
        self._upscaler = upscaler
        self._request = request
        self._sampling = sampling
        self._say = say
        self._progress = progress
        self._notes = notes
        self._making = Making.of_run(upscaler, sampling, seed=request.seed, tile=request.tile)
        self._forms = forms_that_will_do(upscaler.bundle.manifest, request.precision, self._making.form)
        self._pace = kept_pace(upscaler.bundle, upscaler.choice)
        self._works: dict[tuple[PixelSize, PixelSize], Work] = {}
        self._told: set[object] = set()  # sizes that were announced, and notices: what is told once
        ahead = self._works_ahead() if len(request.inputs) > 1 else []
        self._pictures = len(ahead)
        self._outlook = Outlook(self._pace, ahead, began)
        self._forecast = self._outlook.known() if ahead else None
        if self._forecast is not None and len(ahead) > 1:
            self._say(f"{len(ahead)} pictures: about {text_from_seconds(self._forecast)}{self._on_engine()}")

    def make(self, index: int, image: Input, target: Path) -> dict[str, Any] | None:
        """The report's row on a picture that is made now; None if it is there already."""
        began = time.perf_counter()
        read = self._request.open(image)
        size = self._request.output_size(read.size)
        result = result_of(read, size, self._request.saving, self._request.named)
        making = self._making.of_source(read.digest(), size, self._request.saving, result.format.name)
        if self._is_there(image, target, making):
            return None
        work = self._work(read.size, size)
        expected = self._pace.seconds(work)
        self._announce(image, target, read.size, size, work, expected)
        if result.changes:
            self._say(f"{image}: {'; '.join(result.changes)}")
        timing = self._outlook.begin(work, partial(self._upscaler.seconds_of_decoding, read.size, size))
        forecast = _PictureForecast(timing, began, expected)
        self._tell_of_all()

        def after_tile(done: Progress) -> None:
            timing.mark()
            if (told := forecast.told_now()) is not None:
                self._say(f"{target}: {told}")
            self._tell_of_all()
            self._progress(_doing(index, len(self._request.inputs), done), self._outlook.fraction())

        options = RunOptions(
            seed=self._request.seed,
            tile=self._request.tile,
            scratch=target.resolve().parent,
            keeps_pixels=not result.is_streamed,
            pixel_bytes=result.pixel_bytes,
            progress=after_tile,
            notice=self._say,
        )
        with self._upscaler.sampled(read.pixels, size, self._sampling, options) as sampled:
            self._refuse_changed(image, target)
            stripped = self._request.saving.strip_metadata
            result.write(
                target,
                enlarged_rows(sampled, read, result.bits),
                note=making.sealed() if stripped else making.note(),
                provenance=self._making.provenance(self._sampling),
            )
        self._outlook.finish()
        if len(self._request.inputs) == 1 and forecast.seconds is not None:
            self._forecast = self._outlook.elapsed - (time.perf_counter() - began) + forecast.seconds
        return {
            "input": str(image),
            "output": str(target),
            "width": size[0],
            "height": size[1],
            "evaluations": sampled.evaluations,
            "tile": sampled.tile,
            "seconds": round(time.perf_counter() - began, 3),
            "forecast_seconds": _rounded(forecast.seconds),
            "changes": list(result.changes),
        }

    def _refuse_changed(self, image: Input, target: Path) -> None:
        """What came under the name of a result, or was changed there, while the run went on stays."""
        if not self._request.force and note_of_existing(target) != self._notes[image]:
            raise ImageError(f"writing {target}: it was changed while the picture was made. --force writes over it.")

    def finish(self) -> dict[str, float | None]:
        """The report's figures on the whole run, whose times are kept for later ones."""
        seconds = self._outlook.elapsed
        try:
            keep_pace(self._upscaler.bundle, self._upscaler.choice, self._pace)
        except EngineError as error:
            self._say(f"the next estimate will not know these times. {error}")
        return {"seconds": round(seconds, 3), "forecast_seconds": _rounded(self._forecast)}

    def _is_there(self, image: Input, target: Path, making: Making) -> bool:
        """Whether the result that is there is the one that is asked for; said if there is any."""
        note = self._notes[image]
        if note is None:
            return False
        differences = making.differences(note, self._forms)
        if differences:
            if target.resolve() in {other.resolve() for other in self._request.images}:
                raise _overwritten_first(target)
            self._say(f"{target} was made {', '.join(differences)}: it is made again")
        else:
            self._say(f"{target} exists already, made from the same picture and settings; --force makes it again")
        return not differences

    def _works_ahead(self) -> list[Work]:
        """The work of the pictures that will be made, by what their headers say of their sizes."""
        counts: Counter[PixelSize] = Counter()
        for image, note in self._notes.items():
            # By all but its input and size, which will be known when its turn comes.
            if note is None or self._making.differences(note, self._forms):
                with suppress(DeployError):  # told when its turn comes
                    counts[read_size(image.path)] += 1
        works = []
        for lr, count in counts.items():
            with suppress(DeployError, EngineError):  # likewise
                works += [self._work(lr, self._request.output_size(lr))] * count
        return works

    def _work(self, lr: PixelSize, size: PixelSize) -> Work:
        """Looked up once for each size: the tiles of later pictures may differ as memory does, their time hardly."""
        if (lr, size) not in self._works:
            self._works[lr, size] = self._upscaler.work(lr, size, self._sampling, self._request.tile)
        return self._works[lr, size]

    def _announce(
        self, image: Input, target: Path, lr: PixelSize, size: PixelSize, work: Work, expected: float | None
    ) -> None:
        """Sizes and the time it will take, before the work; of many alike the first, and each that takes long."""
        if (lr, size) in self._told and (expected is None or expected < LONG):
            return
        self._told.add((lr, size))
        about = "" if expected is None else f": about {text_from_seconds(expected)}"
        tiles = "" if work.tile is None else f" in {work.tiles} tiles of {work.tile}"
        later = "; the first steps will tell how long it takes" if expected is None else ""
        self._say(f"{image} {lr[0]}x{lr[1]} -> {target} {size[0]}x{size[1]}{about}{self._on_engine()}{tiles}{later}")
        for notice in self._upscaler.notices(lr, size, self._sampling):
            if notice not in self._told:
                self._told.add(notice)
                self._say(notice)

    def _tell_of_all(self) -> None:
        """The time of the whole run, once, as soon as it shows."""
        if self._forecast is None and self._outlook.is_telling:
            self._forecast = self._outlook.expected()
            if self._pictures > 1:
                self._say(f"{self._pictures} pictures: about {text_from_seconds(self._forecast)} in all")

    def _on_engine(self) -> str:
        choice = self._upscaler.choice
        return f" on {choice.backend} {choice.precision}"


class _PictureForecast:
    """What was told of the time of a picture that `began`: `seconds` in all, of which `expected` are still to come."""

    def __init__(self, timing: Timing, began: float, expected: float | None) -> None:
        self.seconds = None if expected is None else time.perf_counter() - began + expected
        self._timing = timing
        self._began = began
        self._is_corrected = False

    def told_now(self) -> str | None:
        """What the evaluations so far show that is still to be told; None where there is nothing."""
        left = self._timing.left()
        if not self._timing.is_telling or (self.seconds is not None and (self._is_corrected or left < LONG)):
            return None
        expected = time.perf_counter() - self._began + left
        if self.seconds is None:
            self.seconds = expected
            return f"about {text_from_seconds(expected)}, judging by its first steps"
        if max(expected / self.seconds, self.seconds / expected) < CORRECTED_FROM:
            return None
        self._is_corrected = True
        return f"rather about {text_from_seconds(expected)} in all, as its steps show"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def text_from_seconds(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _doing(index: int, images: int, done: Progress) -> str:
    """Where a run is, in words."""
    parts = [f"image {index + 1}/{images}"] if images > 1 else []
    parts.append(f"step {done.step}/{done.steps}")
    if done.tiles > 1:
        parts.append(f"tile {done.tile}/{done.tiles}")
    return ", ".join(parts)


def _check_targets(request: Request) -> tuple[dict[Input, ImageError], dict[Input, bytes | None]]:
    """The pictures whose place something else has taken, and the notes of results that are there; before any work."""
    if request.output is not None and request.goes_into_a_folder():
        _make_folder(request.output, is_said=request.output_is_folder)
    # All of them go into one folder.
    first = request.target(request.inputs[0])
    if request.named is not None:
        format_for(request.named, "png", is_lossless=True, saving=request.saving)
    check_format(first)
    check_folder(first)
    refused: dict[Input, ImageError] = {}
    notes: dict[Input, bytes | None] = {}
    for image in request.inputs:
        try:
            notes[image] = note_of_existing(request.target(image), force=request.force)
        except ImageError as error:
            refused[image] = error
    return refused, notes


def _make_folder(folder: Path, *, is_said: bool) -> None:
    if folder.suffix.lower() in WRITTEN_SUFFIXES and not is_said and not folder.is_dir():
        raise ImageError(f"{folder} names one picture, but several are to be written; name a folder with -o.")
    make_folder(folder)


def _overwritten_first(target: Path) -> ImageError:
    return ImageError(f"{target} is to be enlarged itself, and would be overwritten first; name a folder with -o.")


def _refuse_same_targets(request: Request) -> None:
    """Two pictures of the same name must not overwrite each other's result."""
    seen: dict[Path, Input] = {}
    inputs = {image.resolve() for image in request.images}
    for image in request.inputs:
        target = request.target(image)
        if target in seen:
            raise ImageError(
                f"{seen[target]} and {image} would both be written to {target}; enlarge them into different folders."
            )
        if image.path.exists() and target.exists() and image.path.samefile(target):
            raise ImageError(f"{image} would be overwritten by its own enlargement; choose another name with -o.")
        if request.force and target.exists() and target.resolve() in inputs:
            raise _overwritten_first(target)
        seen[target] = image
