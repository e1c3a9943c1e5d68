"""The pictures ahead, read while the network is at earlier ones: what is done is passed over, the rest is ready."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from deploy.errors import DeployError, ImageError
from deploy.folders.naming import Job
from deploy.folders.outcome import Outcome, failed, skipped
from deploy.folders.record import Record, RecordError, Stamp, hash_of_file
from deploy.folders.request import Request
from deploy.folders.settings import Settings
from deploy.images.sizes import Size
from deploy.images.writing import check_format
from deploy.picture.existing import Making, note_of_existing
from deploy.picture.files import Result, Source, result_of
from engines.errors import EngineError

WAIT = 0.5
"""Seconds between two looks at what other runs are making."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """A picture that is read, and what it becomes.

    shown_size: of the file, which may show more than the result. before: what lay at its target then. began, ended: by
    `time.perf_counter`, when it was read.
    """

    job: Job
    result: Result
    making: Making
    shown_size: Size
    before: Stamp | None
    input_stamp: Stamp
    input_hash: bytes | None  # with a record alone
    began: float
    ended: float

    def taken_up(self) -> "Ready":
        """The same at the moment when the network comes to it, as if it had been read just before."""
        now = time.perf_counter()
        return replace(self, began=self.began + now - self.ended, ended=now)

    @property
    def source(self) -> Source:
        """The picture as the network sees it."""
        return self.result.source

    @property
    def lr(self) -> Size:
        """The size of what is enlarged."""
        return self.source.size

    @property
    def size(self) -> Size:
        """The size of what it is enlarged to."""
        return self.result.size

    @property
    def has_alpha(self) -> bool:
        """Whether the network is to enlarge transparency as well."""
        return self.source.view.has_edges_of_alpha

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return self.source.pixels.nbytes + self.source.picture.colour.nbytes


class Reader:
    """Makes pictures ready, in order; those that another run is at come last, if they are still to be made then.

    room: bytes that a picture may take now.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        request: Request,
        settings: Settings,
        record: Record | None,
        stopped: Event,
        room: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._request = request
        self._settings = settings
        self._record = record
        self._stopped = stopped
        self._room = room
        self._say = say
        self._inputs: frozenset[Path] | None = None

    def outcomes(self) -> Iterator[Ready | Outcome]:
        """What came of each job, until the run is stopped."""
        left = list(self._jobs)
        is_told = False
        while left and not self._stopped.is_set():
            elsewhere = []
            for job in left:
                if self._stopped.is_set():
                    return
                outcome = self._outcome(job)
                if outcome is None:
                    elsewhere.append(job)
                else:
                    yield outcome
            if elsewhere:
                if not is_told:
                    self._say(f"{len(elsewhere)} of the pictures are being made by another run, which is waited for")
                    is_told = True
                self._stopped.wait(WAIT)
            left = elsewhere

    def _outcome(self, job: Job) -> Ready | Outcome | None:
        """The picture, ready; or why it is not made; None if another run is at it."""
        began = time.perf_counter()
        if self._is_recorded(job):
            return skipped(job)
        if self._record is not None and not self._record.claim(job.target):
            return None
        try:
            # Another run may have made it between the look and the claim.
            ready = None if self._is_recorded(job) else self._ready(job, began)
        except RecordError:
            raise
        except (DeployError, EngineError, OSError) as error:
            self._release(job)
            return failed(job, error, began)
        if ready is None:
            self._release(job)
            return skipped(job)
        return ready

    def _release(self, job: Job) -> None:
        if self._record is not None:
            self._record.release(job.target)

    def _is_recorded(self, job: Job) -> bool:
        """Whether the record, and the files, say that this result is what would be made."""
        if self._record is None or self._request.force:
            return False
        entry = self._record.find(job.target)
        if entry is None or entry.settings not in self._settings.hashes_that_will_do(job.draw):
            return False
        try:
            return entry.has_output(job.target) and entry.has_input(job.image)
        except OSError:
            return False  # reading it tells why

    def _ready(self, job: Job, began: float) -> Ready | None:
        """The picture that was read; None if its result is there already."""
        before = _stamp(job.target)
        note = self._note(job, before)
        if before is not None and self._request.force:
            self._refuse_input(job.target)
        input_stamp = _stamp(job.image)
        source = self._request.open(job.image, job.frame, self._room())
        input_hash = hash_of_file(job.image) if self._record is not None else None
        if _stamp(job.image) != input_stamp or input_stamp is None:
            raise ImageError(f"reading {job.image}: it was changed while it was read. Run again when it is complete.")
        size = self._request.output_size(source.size)
        result = result_of(source, size, self._request.saving, job.target if job.names_format else None)
        shown_size = self._settings.shown_size(size)
        check_format(job.target, shown_size, result.format)
        ready = Ready(
            job=job,
            result=result,
            making=self._settings.making(result, job.draw),
            shown_size=shown_size,
            before=before,
            input_stamp=input_stamp.if_settled(),
            input_hash=input_hash,
            began=began,
            ended=time.perf_counter(),
        )
        if note is None or not self._is_there(ready, note):
            return ready
        if self._record is not None:
            self._record.finish(job.target, self._settings.entry(ready, job.target))
        return None

    def _note(self, job: Job, before: Stamp | None) -> bytes | None:
        """What the result that is there says of its making; None if there is none. What is not ours is refused."""
        if before is None:
            return note_of_existing(job.target, force=self._request.force)
        entry = None if self._record is None else self._record.find(job.target)
        if entry is not None and not self._request.force and entry.has_output(job.target):
            return b""  # ours, and made otherwise
        return note_of_existing(job.target, force=self._request.force)

    def _is_there(self, ready: Ready, note: bytes) -> bool:
        """Whether the result that is there is the one that is asked for; said if there is any."""
        target = ready.job.target
        differences = ready.making.differences(note, self._settings.forms, self._settings.tiles) if note else []
        if differences or not note:
            self._refuse_input(target)
        if not note:
            self._say(f"{target} was made from another picture or with other settings: it is made again")
            return False
        if differences:
            self._say(f"{target} was made {', '.join(differences)}: it is made again")
        else:
            self._say(f"{target} exists already, made from the same picture and settings; --force makes it again")
        return not differences

    def _refuse_input(self, target: Path) -> None:
        """What is to be enlarged itself is not written over."""
        if self._inputs is None:
            self._inputs = frozenset(job.image.resolve() for job in self._jobs)
        if target.resolve() in self._inputs:
            raise ImageError(
                f"{target} is to be enlarged itself, and would be overwritten first; name a folder with -o."
            )


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None
