"""One thread reads ahead, the caller's runs the network, two write.

What is held between them is bounded, in pictures and in bytes. The network runs while the caller asks for the next
outcome; reading and writing go on meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from deploy.folders.batches import Batches, Waiting
from deploy.folders.channel import Channel, Closed
from deploy.folders.making import Maker, ahead_bytes
from deploy.folders.outcome import Outcome
from deploy.folders.reading import Reader, Ready
from deploy.folders.writing import Delivery, Writer

if TYPE_CHECKING:
    from deploy.folders.run import Run

WRITERS = 2
"""Threads that write: compressing a result takes a part of what its network takes on a processor, on a GPU more."""

LOOK = 0.05
"""Seconds between two looks at whether a picture is written, while none is ready to be made."""


class Pipeline:
    """The threads of a run, alive while its block runs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stopped = Event()
        batches = Batches(run.request.batch)
        most = max(4, 2 * batches.most)
        ahead = ahead_bytes(run.upscaler)
        self._ready: Channel[Ready | Outcome] = Channel(most, ahead)
        self._results: Channel[Delivery] = Channel(most, ahead)
        self._written: deque[Outcome | BaseException] = deque()
        self._writer = Writer(run.request, run.settings, run.record)
        self._maker = Maker(
            run.upscaler,
            run.request,
            run.sampling,
            run.forecasts,
            batches,
            self._results,
            self._writer,
            run.tell_of_picture,
            waits=len(run.jobs) == 1,
        )
        self._reading = Thread(target=self._read, name="idm-deploy reads", daemon=True)
        self._writing = [Thread(target=self._write, name="idm-deploy writes", daemon=True) for _ in range(WRITERS)]

    def __enter__(self) -> Self:
        for thread in (self._reading, *self._writing):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """The threads have ended: what is whole is written, what is not leaves nothing."""
        self._stopped.set()
        self._ready.drop()
        self._results.end()
        for thread in (self._reading, *self._writing):
            thread.join()

    def outcomes(self) -> Iterator[Outcome]:
        """What came of each picture, as soon as it is known."""
        waiting = Waiting()
        is_over = False
        while waiting or not is_over:
            yield from self._finished()
            try:
                while not is_over and self._maker.wants_more(waiting, self._run.tally.left):
                    outcome = self._ready.take(LOOK)
                    if isinstance(outcome, Ready):
                        self._run.tell_of_changes(outcome)
                        waiting.add(outcome)
                    elif outcome is not None:
                        yield outcome
                    yield from self._finished()
            except Closed:
                is_over = True
            if waiting:
                yield from self._maker.make(waiting, self._run.tally.left)
        self._results.end()
        yield from self._rest(self._writing)

    def _rest(self, writers: Sequence[Thread]) -> Iterator[Outcome]:
        for thread in writers:
            while thread.is_alive():
                thread.join(LOOK)
                yield from self._finished()
        yield from self._finished()

    def _finished(self) -> Iterator[Outcome]:
        """What has been written since."""
        while self._written:
            outcome = self._written.popleft()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def _read(self) -> None:
        run = self._run
        reader = Reader(
            run.jobs,
            run.request,
            run.settings,
            run.record,
            self._stopped,
            run.upscaler.session.room,
            run.tell_of_existing,
        )
        try:
            for outcome in reader.outcomes():
                if not self._ready.give(outcome, outcome.weight if isinstance(outcome, Ready) else 0):
                    return
            self._ready.end()
        except BaseException as error:  # a bug, or a record that fails: the caller's thread raises it
            self._ready.fail(error)

    def _write(self) -> None:
        try:
            for result in self._results:
                try:
                    self._written.append(self._writer.written(result))
                finally:
                    result.is_written.set()
        except BaseException as error:  # likewise
            self._written.append(error)
            self._ready.drop()
            self._results.drop()
