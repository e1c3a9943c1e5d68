"""Two pieces of work at a time, each on half of the threads, rather than one after the other on all of them.

A step of a small network is many operations of less than a millisecond, over which the threads of an engine wait for
each other by spinning. Two engines of one thread each never wait: on the packaged IDM and 2 cores the ranking of layers
took 17 seconds of processor time with one thread and 56 with two.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Final, TypeVar, cast

from engines.machine.host import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST: Final = 2
"""Each lane holds activations, and where engines differ weights, of its own: more lanes would take more memory."""

END: Final = object()


class StoppedError(Exception):
    """Work gave up since another lane failed or was interrupted; nobody sees it."""


def go_on(stop: Event) -> None:
    """Work that lasts calls it now and then: it ends by `StoppedError` once its result is not wanted any more."""
    if stop.is_set():
        raise StoppedError


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """How many pieces of work run at a time, and on how many threads each; threads None: as many as an engine likes."""

    count: int
    threads: int | None

    def each(
        self, work: Callable[[Item], Result], items: Iterable[Item], stop: Event | None = None
    ) -> Iterator[Result]:
        """What `work` makes of every item, in the order of the items, which are taken as lanes become free.

        After an error, which is raised in its turn, no further item is taken; Ctrl-C is such an error. stop: is set
        then, for work that lasts to look at, since what runs is waited for.
        """
        if self.count == 1:
            yield from map(work, items)
            return
        waiting: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(self.count) as pool:
            try:
                for item in items:
                    waiting.append(pool.submit(work, item))
                    if len(waiting) > self.count:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BaseException:  # of the work, Ctrl-C, or the end of a caller who wants no further results
                if stop is not None:
                    stop.set()
                for future in waiting:
                    future.cancel()
                raise

    def ahead(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each made by one lane while another uses the one before it; with one lane, in turns."""
        if self.count == 1:
            yield from items
            return
        making = iter(items)
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, making, END)
            while (item := coming.result()) is not END:
                coming = pool.submit(next, making, END)
                yield cast(Item, item)


def lanes_for(threads: int | None) -> Lanes:
    """Lanes on so many threads in all; None: as many as this process has cores. Five threads make two lanes of two."""
    wanted = threads or usable_cores()
    count = min(wanted, MOST)
    return Lanes(count=count, threads=wanted // count)
