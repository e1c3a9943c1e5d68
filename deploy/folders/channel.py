"""What one thread hands to another, in order, and only so much at a time."""

from collections import deque
from collections.abc import Iterator
from threading import Condition
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Closed(Exception):  # noqa: N818  an end rather than an error
    """Nothing comes any more, or nobody takes it."""


class Channel(Generic[Thing]):
    """Things between threads: at most `most` of them, and of at most `weight` together where that is more than one.

    The giving side ends it with `end` or `fail`, the taking side with `drop`, after which giving says False.
    """

    def __init__(self, most: int, weight: int) -> None:
        self._most = most
        self._weight = weight
        self._held: deque[tuple[Thing, int]] = deque()
        self._changed = Condition()
        self._ended = False
        self._dropped = False
        self._error: BaseException | None = None

    def give(self, thing: Thing, weight: int = 0) -> bool:
        """Waits until there is room; False where nobody takes things any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._dropped or self._has_room(weight))
            if self._dropped:
                return False
            self._held.append((thing, weight))
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing more will come, and who takes gets the error, after what was given before it."""
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Nothing more is wanted; what is here is let go."""
        with self._changed:
            self._dropped = True
            self._held.clear()
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Thing | None:
        """The next thing; None if none came in `timeout` seconds. Closed after the last one, or the giver's error."""
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._ended or self._dropped, timeout)
            if self._held:
                thing, _ = self._held.popleft()
                self._changed.notify_all()
                return thing
            if self._error is not None:
                raise self._error
            if self._ended or self._dropped:
                raise Closed
            return None

    def __iter__(self) -> Iterator[Thing]:
        while True:
            try:
                thing = self.take()
            except Closed:
                return
            assert thing is not None
            yield thing

    def _has_room(self, weight: int) -> bool:
        if not self._held:
            return True  # one alone always goes, or it would wait for ever
        return len(self._held) < self._most and sum(each for _, each in self._held) + weight <= self._weight
