"""Results on their way into files, while the network is at later ones."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import DeployError, ImageError
from deploy.folders.channel import Channel
from deploy.folders.outcome import Enlarged, failed
from deploy.folders.reading import Ready
from deploy.folders.record import Record, Stamp
from deploy.folders.request import Request
from deploy.folders.settings import Settings
from deploy.folders.views import shown_rows
from deploy.images.files import Pixels, write_image
from deploy.images.png import write_png_rows
from deploy.images.sizes import PixelSize
from deploy.picture.existing import note_of_existing
from engines.errors import EngineError
from engines.new_files import new_file


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A sampled picture whose rows, uint8 (rows, width, 3), come through `rows` from top to bottom."""

    ready: Ready
    rows: Channel[Pixels]
    evaluations: int
    tile: int | None
    forecast_seconds: float | None


class Writer:
    """Writes results, from any number of threads."""

    def __init__(self, request: Request, settings: Settings, record: Record | None) -> None:
        self._request = request
        self._settings = settings
        self._record = record

    def written(self, result: Result) -> Enlarged:
        """What came of a picture, which lies in its place complete or not at all."""
        ready = result.ready
        target = ready.job.target
        try:
            self._write(result)
        except (DeployError, EngineError, OSError) as error:
            result.rows.drop()
            self._let_go(ready)
            return failed(ready.job, self._with_place_of(error, ready), ready.began)
        return Enlarged(
            state="made",
            input=ready.job.image,
            output=target,
            size=self._settings.shown_size(ready.size),
            evaluations=result.evaluations,
            tile=result.tile,
            seconds=round(time.perf_counter() - ready.began, 3),
            forecast_seconds=None if result.forecast_seconds is None else round(result.forecast_seconds, 3),
            changes=ready.read.changes,
        )

    def give_up(self, ready: Ready, error: Exception) -> Enlarged:
        """A picture that could not be sampled."""
        self._let_go(ready)
        return failed(ready.job, error, ready.began)

    def _let_go(self, ready: Ready) -> None:
        if self._record is not None:
            self._record.release(ready.job.target)

    def _write(self, result: Result) -> None:
        ready, target = result.ready, result.ready.job.target
        note = ready.making.note()
        rows = shown_rows(result.rows, ready, self._request)
        size = self._settings.shown_size(ready.size)
        if self._record is None:
            self._refuse_changed(ready)
            write_rows(target, size, self._guarded(rows, ready), note, grey=ready.read.is_grey)
            return
        place = self._record.place_for(ready.job.index, target.suffix)
        try:
            write_rows(place, size, rows, note, grey=ready.read.is_grey)
            entry = self._settings.entry(ready, place)
            self._refuse_changed(ready)
            self._record.announce(target, entry)
            _move(place, target)
        finally:
            place.unlink(missing_ok=True)
        self._record.finish(target, entry)

    def _with_place_of(self, error: Exception, ready: Ready) -> Exception:
        """The error, with the result's place where it names the one that it is written to first."""
        if self._record is None or isinstance(error, OSError):
            return error
        place = self._record.place_for(ready.job.index, ready.job.target.suffix)
        return type(error)(str(error).replace(str(place), str(ready.job.target)))

    def _guarded(self, rows: Iterator[Pixels], ready: Ready) -> Iterator[Pixels]:
        """The rows; after the last one, the place of the result is looked at once more."""
        yield from rows
        self._refuse_changed(ready)

    def _refuse_changed(self, ready: Ready) -> None:
        """What came under the name of a result, or was changed there, while the run went on stays."""
        target = ready.job.target
        if self._request.force or _stamp_at(target) == ready.before:
            return
        note_of_existing(target)
        raise ImageError(f"writing {target}: it was changed while the picture was made. --force writes over it.")


def write_rows(target: Path, size: PixelSize, rows: Iterator[Pixels], note: bytes, *, grey: bool = False) -> None:
    """`target` holds the picture and the note; PNG is written as its rows come, other formats need all of them.

    `grey`: the three channels are equal, and one is written.
    """
    channels = (block[:, :, 0] if grey else block for block in rows)
    if is_streamed(target):
        write_png_rows(target, *size, channels, grey=grey, note=note)
    else:
        write_image(np.concatenate(list(channels)), target, note=note)


def is_streamed(target: Path) -> bool:
    """Whether a result is written as its rows come."""
    return target.suffix.lower() == ".png"


def _stamp_at(target: Path) -> Stamp | None:
    try:
        return Stamp.of(target)
    except OSError:
        return None


def _move(place: Path, target: Path) -> None:
    """The complete file lies in its place at once, even where that is on another disk."""
    try:
        place.replace(target)
    except OSError as error:
        if target.is_dir():
            raise ImageError(
                f"writing {target}: there is a folder of that name. Choose another name with -o."
            ) from error
        with new_file(target) as file, place.open("rb") as source:
            shutil.copyfileobj(source, file)
        shutil.copystat(place, target)  # its times are in the record
