"""The memory that runs at the same time share, so that together they stay within what one may take.

Each run is laid out as if it were alone, so that company changes no picture. What it will take is then set aside for
it; a run that does not fit beside the others waits until some of them end, and the first to come is the first to go.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident

from deploy.picture.memory import resident_bytes


class Room:
    """What the runs of a process have been given; `ROOM` is the one of this process."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[object] = deque()
        self._given: dict[object, tuple[int, int]] = {}  # thread and bytes of each run
        self._idle_bytes = 0

    def resident_besides_runs(self) -> int:
        """Memory that the process holds now; while runs hold some of it, what it held before the first of them."""
        with self._changed:
            if not self._given:
                self._idle_bytes = resident_bytes()
            return self._idle_bytes

    @contextmanager
    def given(self, wanted: int, available: int) -> Iterator[None]:
        """`wanted` bytes are this run's while the block runs, of the `available` ones that all runs share.

        A run that is alone always begins. So does one inside another of the same thread, which could wait for ever.
        """
        run = object()
        with self._changed:
            if all(thread != get_ident() for thread, _ in self._given.values()):
                self._wait(run, wanted, available)
            self._given[run] = get_ident(), wanted
        try:
            yield
        finally:
            with self._changed:
                del self._given[run]
                self._changed.notify_all()

    def _wait(self, run: object, wanted: int, available: int) -> None:
        def fits() -> bool:
            return not self._given or sum(size for _, size in self._given.values()) + wanted <= available

        self._waiting.append(run)
        try:
            self._changed.wait_for(lambda: self._waiting[0] is run and fits())
        finally:
            self._waiting.remove(run)
            self._changed.notify_all()


ROOM = Room()
"""Of this process: budgets bound its resident memory, whichever objects run in it."""
