"""Results on their way into files, while the network is at later ones."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from deploy.errors import DeployError, ImageError
from deploy.folders.channel import Channel
from deploy.folders.outcome import Outcome, failed, frame_number
from deploy.folders.reading import Ready
from deploy.folders.record import Record, RecordError, Stamp
from deploy.folders.request import Request
from deploy.folders.settings import Settings
from deploy.folders.views import shown_rows
from deploy.images.picture import Samples
from deploy.picture.existing import note_of_existing
from engines.errors import EngineError
from engines.new_files import new_file


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """A sampled picture whose rows, blocks (rows, W, C) of its result, come through `rows` from top to bottom."""

    ready: Ready
    rows: Channel[Samples]
    evaluations: int
    tile: int | None
    forecast_seconds: float | None
    is_written: Event = field(default_factory=Event)


class Writer:
    """Writes results, from any number of threads."""

    def __init__(self, request: Request, settings: Settings, record: Record | None) -> None:
        self._request = request
        self._settings = settings
        self._record = record

    def written(self, delivery: Delivery) -> Outcome:
        """What came of a picture, which lies in its place complete or not at all."""
        ready = delivery.ready
        target = ready.job.target
        try:
            self._write(delivery)
        except RecordError:
            raise
        except (DeployError, EngineError, OSError) as error:
            self._let_go(ready)
            return failed(ready.job, self._with_place_of(error, ready), ready.began)
        finally:
            delivery.rows.drop()  # who gives them must not wait for ever
        return Outcome(
            state="made",
            input=ready.job.image,
            output=target,
            size=ready.shown_size.for_user,
            evaluations=delivery.evaluations,
            tile=delivery.tile,
            seconds=round(time.perf_counter() - ready.began, 3),
            forecast_seconds=None if delivery.forecast_seconds is None else round(delivery.forecast_seconds, 3),
            changes=ready.result.changes,
            frame=frame_number(ready.job),
        )

    def give_up(self, ready: Ready, error: Exception) -> Outcome:
        """A picture that could not be sampled."""
        self._let_go(ready)
        return failed(ready.job, error, ready.began)

    def _let_go(self, ready: Ready) -> None:
        if self._record is not None:
            self._record.release(ready.job.target)

    def _write(self, delivery: Delivery) -> None:
        ready, target = delivery.ready, delivery.ready.job.target
        rows = shown_rows(delivery.rows, ready, self._request)
        if self._record is None:
            self._refuse_changed(ready)
            self._write_to(target, ready, self._guarded(rows, ready))
            return
        place = self._record.place_for(ready.job.index, target.suffix)
        try:
            self._write_to(place, ready, rows)
            entry = self._settings.entry(ready, place)
            self._refuse_changed(ready)
            self._record.announce(target, entry)
            _move(place, target)
        finally:
            place.unlink(missing_ok=True)
        self._record.finish(target, entry)

    def _write_to(self, place: Path, ready: Ready, rows: Iterator[Samples]) -> None:
        """The file that shows the result is at `place`."""
        note, provenance = self._settings.note(ready.making), self._settings.provenance(ready.making)
        shown = replace(ready.result, size=ready.shown_size)
        shown.write(place, rows, note=note, provenance=provenance)

    def _with_place_of(self, error: Exception, ready: Ready) -> Exception:
        """The error, with the result's place where it names the one that it is written to first."""
        if self._record is None or isinstance(error, OSError):
            return error
        place = self._record.place_for(ready.job.index, ready.job.target.suffix)
        return type(error)(str(error).replace(str(place), str(ready.job.target)))

    def _guarded(self, rows: Iterator[Samples], ready: Ready) -> Iterator[Samples]:
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
