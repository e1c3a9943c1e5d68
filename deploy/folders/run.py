"""A run over files and folders: what is found is named, made, and told of."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from deploy.errors import DeployError, ImageError
from deploy.folders.forecasts import MOST_ANNOUNCED, MOST_LOOKED_AT, Forecasts
from deploy.folders.naming import Job, check_names, jobs_of
from deploy.folders.outcome import Outcome
from deploy.folders.patterns import Patterns
from deploy.folders.pipeline import Pipeline
from deploy.folders.reading import Ready
from deploy.folders.record import Known, Record
from deploy.folders.request import Request
from deploy.folders.search import Found, find_pictures
from deploy.folders.settings import Settings
from deploy.folders.sheets import Sheets
from deploy.folders.streams import without_places
from deploy.folders.tally import Tally, shown
from deploy.foreign.places import address_in
from deploy.images.files import READ_SUFFIXES, make_folder
from deploy.images.formats.table import WRITTEN_SUFFIXES
from deploy.images.notes import note_of
from deploy.images.writing import check_folder, check_format
from deploy.picture.pace import Pace
from deploy.picture.run import Progress
from deploy.picture.upscaler import Upscaler
from engines.progress import Progress as TellsProgress
from engines.progress import Say

_LOG = logging.getLogger(__name__)

MOST_CHANGES = 20
"""Kinds of what results do not keep that are told at the end of a run on many pictures."""


class Run:
    """The pictures of a request, found and named; `outcomes` makes them. A context manager.

    say: is told what a person should know. progress: how far the run is, in words and as a part of its time. is_dry:
    nothing will be made, and nothing is written for it. pace: see `Forecasts`.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        request: Request,
        *,
        say: Say,
        progress: TellsProgress,
        is_dry: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.upscaler = upscaler
        self.request = request
        self.sampling = upscaler.sampling(request.choices, request.scale)
        self.settings = Settings(upscaler, request, self.sampling)
        self._say = say = _in_one_line(say)
        self._progress = progress
        self._stack = ExitStack()
        self._record: Record | None = None
        self._known: Known | None = None
        try:
            # What cannot be done is refused before anything is made.
            self._look_at_output()
            found = self._found()
            self.jobs = jobs_of(request, found.sources, self._input_of)
            self._sheets = Sheets(request, self.jobs)
            if self.jobs:
                self._check_formats()
            if not is_dry:
                self._open_output()
        except BaseException:
            self._stack.close()
            raise
        self.unreadable = found.failures
        self.tally = Tally(len(self.jobs) + len(found.failures), time.perf_counter())
        self.summary: dict[str, Any] = {}
        self.forecasts = Forecasts(upscaler, request, self.sampling, len(self.jobs), say, pace)
        self._is_long = len(self.jobs) > MOST_ANNOUNCED
        self._changes: Counter[str] = Counter()
        self._first_changed: dict[str, str] = {}  # of each change, the first picture

    def keep_jobs_of(self, images: Collection[Path]) -> None:
        """Only results of these are made; the others have had a part in the names. To be called before `outcomes`."""
        self.jobs = [job for job in self.jobs if job.image in images]
        self.tally = Tally(len(self.jobs) + len(self.unreadable), time.perf_counter())

    def outcomes(self) -> Iterator[Outcome]:
        """What came of each picture, as soon as it is known. To be asked for once; `summary` is there afterwards."""
        for folder, error in self.unreadable.items():
            yield self._counted(Outcome(state="failed", input=folder, output=folder, error=str(error)))
        if self.jobs:
            self._say(self.sampling.describe())
        self._look_ahead()
        with Pipeline(self) as pipeline:
            for outcome in pipeline.outcomes():
                yield self._counted(outcome)
        self._finish()

    def report(self) -> dict[str, Any]:
        """What is the same for all pictures of the run, ready for JSON."""
        return {
            "bundle": str(self.upscaler.bundle.path),
            "engine": self.upscaler.choice.backend,
            "precision": self.upscaler.choice.precision,
            "seed": self.request.seed,
            "sampling": self.sampling.as_dict(),
        }

    def will_be_made(self, job: Job) -> bool:
        """By all but the input itself, which is known when it is read."""
        if self.request.force or not job.target.is_file():
            return True
        entry = None if self._known is None else self._known.find(job.target)
        if entry is not None:
            return entry.settings not in self.settings.hashes_that_will_do(job.draw)
        note = note_of(job.target)
        return note is None or self.settings.differs(note, job.draw)

    def is_ours(self, target: Path) -> bool:
        """Whether the record says that the file at `target` is as this tool wrote it."""
        entry = None if self._known is None else self._known.find(target)
        return entry is not None and entry.has_output(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of the run is claimed or open any more."""
        self._stack.close()

    def _look_at_output(self) -> None:
        """The output is one for these pictures; what is known of its results can be looked up."""
        request = self.request
        if request.output is None or not request.goes_into_a_folder():
            if any(image.is_dir() for image in request.images):
                raise ImageError("The results of a folder need a folder of their own: name it with -o.")
            return
        folder = request.output
        if folder.suffix.lower() in WRITTEN_SUFFIXES and not request.output_is_folder and not folder.is_dir():
            raise ImageError(f"{folder} names one picture, but several are to be written; name a folder with -o.")
        if request.keeps_record:
            self._known = self._stack.enter_context(Known(folder))

    def _open_output(self) -> None:
        """The folder of results is there, can be written to, and has a record."""
        request = self.request
        if request.output is None or not request.goes_into_a_folder():
            check_folder(self.jobs[0].target if self.jobs else Path("x"))
            return
        make_folder(request.output)
        # Folders in it that mirror those of inputs are made when something goes there.
        check_folder(request.output / "x")
        if self._known is not None:
            self._known.close()
            self._known = self._record = self._stack.enter_context(Record(request.output, self._say))

    def _found(self) -> Found:
        request = self.request
        patterns = Patterns.of(request.include, request.exclude)
        found = find_pictures(request.images, patterns, output=request.output, is_result=self._is_result)
        if not found.sources and not found.failures:
            named = " and ".join(shown(image) for image in request.images)
            passed = [
                f"{count} {what} passed over"
                for count, what in ((found.others, "other files were"), (found.results, "earlier results were"))
                if count
            ]
            raise ImageError(
                f"There is no picture to enlarge in {'; '.join([named, *passed])}. In a folder, pictures are told by "
                f"their suffix ({', '.join(READ_SUFFIXES)}); --include takes others."
            )
        if again := list(dict.fromkeys(found.repeated)):
            are = f"{again[0]} is" if len(again) == 1 else f"{len(again)} files are (first {again[0]})"
            self._say(f"{are} named more than once, and enlarged once")
        return found

    def _is_result(self, path: Path) -> bool:
        if self._known is not None and self.request.output is not None:
            inside = path.parent.resolve().relative_to(self.request.output.resolve()) / path.name
            if self._known.find(self.request.output / inside) is not None:
                return True
        return note_of(path) is not None

    def _input_of(self, target: Path) -> Path | None:
        """The input of a result that is known."""
        entry = None if self._known is None else self._known.find(target)
        return None if entry is None else entry.input_path

    def _check_formats(self) -> None:
        """The names that results get are those of a format that can be written."""
        check_names(self.request)
        check_format(self.jobs[0].target)

    def _look_ahead(self) -> None:
        """The forecast of all pictures, by what their headers say of their sizes."""
        if not 1 < len(self.jobs) <= MOST_LOOKED_AT:
            return
        inputs = []
        for job in self.jobs:
            if self.will_be_made(job):
                with suppress(DeployError):  # told when its turn comes
                    inputs.append(self.request.outlook_on(job.image, self.upscaler.session.room()))
        self.forecasts.look_ahead(inputs)

    def tell_of_picture(self, ready: Ready, done: Progress) -> None:
        """How far the run is, from a picture in the making."""
        doing = _doing(done)
        if len(self.jobs) > 1:
            doing = self.tally.text(ready.job.image) + ("" if self._is_long else f", {doing}")
        by_count = self._is_long or self.request.batch not in (None, 1)  # no forecast is made of several at once
        fraction = self.tally.fraction(time.perf_counter()) if by_count else self.forecasts.fraction()
        self._progress(doing, fraction)

    def tell_of_existing(self, line: str) -> None:
        """What lies at the place of a result; of many pictures only the numbers are told."""
        if not self._is_long:
            self._say(line)

    def tell_of_changes(self, ready: Ready) -> None:
        """What of an input its result does not keep; of many pictures at the end, with their number."""
        self._changes.update(ready.result.changes)
        for change in ready.result.changes:
            self._first_changed.setdefault(change, str(ready.job))
        if ready.result.changes and not self._is_long:
            self._say(f"{ready.job}: {'; '.join(ready.result.changes)}")

    def _counted(self, outcome: Outcome) -> Outcome:
        self.tally.count(outcome, time.perf_counter())
        if outcome.state == "failed":
            named, told = address_in(outcome.input) or str(outcome.input), outcome.error or ""
            _LOG.error("%s", shown(without_places(told if named in told else f"{named}: {told}")))
        self._sheets.note(outcome, self._say)
        return outcome

    def _finish(self) -> None:
        """The end of a run that went through: what is told of all pictures."""
        if self._is_long:
            for change, count in self._changes.most_common(MOST_CHANGES):
                pictures = "1 picture" if count == 1 else f"{count} pictures"
                self._say(
                    f"{pictures}: {change} ({'' if count == 1 else 'first '}{shown(self._first_changed[change])})"
                )
            if (more := len(self._changes) - MOST_CHANGES) > 0:
                self._say(f"{more} further kinds of what results do not keep: --json names them by picture")
        self.tally.tell_failures(lambda line: _LOG.error("%s", line))
        self.summary = self.report() | self.tally.counts() | self.forecasts.close()

    @property
    def record(self) -> Record | None:
        """What is done, if that is kept."""
        return self._record


def _in_one_line(say: Say) -> Say:
    """The same for lines that hold names of files, which may hold anything."""
    return lambda line: say(shown(line))


def _doing(done: Progress) -> str:
    """Where the making of a picture is, in words."""
    tiles = f", tile {done.tile}/{done.tiles}" if done.tiles > 1 else ""
    return f"step {done.step}/{done.steps}{tiles}"


def infer_pictures(upscaler: Upscaler, request: Request, *, say: Say, progress: TellsProgress) -> dict[str, Any]:
    """What was made, skipped and refused, in lists, in the order of the pictures."""
    with Run(upscaler, request, say=say, progress=progress) as run:
        order = {job.target: job.index for job in run.jobs}
        finished = sorted(run.outcomes(), key=lambda outcome: order.get(outcome.output, -1))
    outcomes = [outcome.as_json() for outcome in finished]
    lists = {
        name: [row for row in outcomes if row["kind"] == kind]
        for name, kind in (("pictures", "made"), ("failed", "failed"))
    }
    skipped = [row["output"] for row in outcomes if row["kind"] == "skipped"]
    return run.summary | lists | {"skipped": skipped}
