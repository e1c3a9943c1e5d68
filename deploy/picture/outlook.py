"""How far a run of pictures is and how long it will take, known better with every evaluation."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from deploy.picture.pace import Pace, Timing, Work

WORTH_TELLING = 5.0
"""Seconds that a run must have left for its forecast to be told before two pictures show what the next ones take."""


class _Lookup(Protocol):
    def __call__(self, work: Work, *, again: bool = False) -> float | None: ...


class _Seconds(NamedTuple):
    """Seconds of the first picture of a kind in a run, and of each that comes later."""

    first: float
    again: float

    def of(self, count: int, *, begun: bool) -> float:
        """Seconds of so many pictures, where one was `begun` before them or not."""
        return count * self.again if begun or not count else self.first + (count - 1) * self.again


class Outlook:
    """The pictures of a run: those that are made, the one in the making, and `ahead` those that are to come.

    `began`: when the run began, by `clock`.
    """

    def __init__(
        self, pace: Pace, ahead: Iterable[Work], began: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._pace = pace
        self._ahead = Counter(ahead)
        self._began = began
        self._clock = clock
        self._made = 0
        self._timing: Timing | None = None
        self._fraction = 0.0
        self._begun: set[Work] = set()
        self._later: Mapping[Work, _Seconds] = {}
        self._looks_after = 0  # pictures made

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    def known(self) -> float | None:
        """Seconds of the whole run; None where some picture ahead is of a size that was never timed."""
        later = self._all_ahead(self._pace.seconds)
        return None if later is None else self.elapsed + self._sum(later)

    def begin(self, work: Work, decoding: Callable[[], float] = lambda: 0.0) -> Timing:
        """The timing of the next picture, which is no longer ahead. `decoding`: as Timing takes it."""
        if self._ahead[work]:
            self._ahead[work] -= 1
        self._begun.add(work)
        self._timing = Timing(self._pace, work, decoding, self._clock)
        return self._timing

    def finish(self) -> None:
        """The picture in the making is written."""
        if self._timing is not None:
            self._timing.finish()
            self._made += 1
            self._timing = None

    @property
    def is_telling(self) -> bool:
        """Whether what is done tells what the run takes: two pictures, or the beginning of a long one."""
        if self._made > 1 or self._timing is None:
            return self._made > 1
        return self._timing.is_telling and self._timing.left() >= WORTH_TELLING

    def expected(self) -> float:
        """Seconds of the whole run, by all that is known now."""
        return self.elapsed + self._left()

    def fraction(self) -> float:
        """The part of the run's time that is over, from 0 to 1; it never falls."""
        elapsed = self.elapsed
        whole = elapsed + self._left()
        self._fraction = max(self._fraction, elapsed / whole if whole > 0 else 0.0)
        return self._fraction

    def _left(self) -> float:
        """Seconds to the end of the run."""
        now = self._timing.left() if self._timing is not None else 0.0
        return now + self._sum(self._seconds_ahead())

    def _seconds_ahead(self) -> Mapping[Work, _Seconds]:
        """Seconds of each kind of picture ahead; looked up again when twice as many are made, as that takes time."""
        if self._made >= self._looks_after:
            later = self._all_ahead(self._pace.about)
            if later is None:  # nothing was timed yet
                return {work: _Seconds(*[self._like_the_present(work)] * 2) for work in self._ahead}
            self._later, self._looks_after = later, max(1, 2 * self._made)
        return self._later

    def _all_ahead(self, seconds: _Lookup) -> dict[Work, _Seconds] | None:
        """The seconds of each kind of picture ahead; None where they are not known of all."""
        times = {}
        for work in +self._ahead:
            first, again = seconds(work), seconds(work, again=True)
            if first is None or again is None:
                return None
            times[work] = _Seconds(first, again)
        return times

    def _sum(self, times: Mapping[Work, _Seconds]) -> float:
        return sum(seconds.of(self._ahead[work], begun=work in self._begun) for work, seconds in times.items())

    def _like_the_present(self, work: Work) -> float:
        """The seconds of a picture whose pixels take as long as those of the one in the making."""
        if self._timing is None:
            return 0.0
        present = self._timing.work
        expected = self._timing.elapsed + self._timing.left()
        return expected * (work.evaluations * work.window) / (present.evaluations * present.window)
