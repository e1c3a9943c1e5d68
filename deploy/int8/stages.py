"""How far a calibration is, told as one fraction over all of its stages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from engines.progress import Progress

SHARES: Final = {
    "trajectories": 0.17,
    "gathering": 0.36,
    "scales": 0.06,
    "means": 0.02,
    "decoder": 0.03,
    "trying": 0.22,
    "correcting": 0.14,
}
"""Of the time, by stage in order. Seen on the packaged IDM (three targets, 16 pictures, one thread): 0.19, 0.34, 0.08,
not asked for, no decoder, 0.20, 0.18; on larger networks scales are a smaller part and trials a larger one."""

USUAL: Final = 1.5
"""Trials of a target: one with the most sensitive layers in float, seldom more."""

RANKING: Final = 3.0
"""Trials that last as long as the ranking of layers, about."""


class Stages:
    """Makes the progress of a stage, which counts from 0 to 1, into that of the whole, which never falls.

    A stage that runs twice, as the choice of scales does for two forms of codes, waits until it is past the first time.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached = 0.0

    def __call__(self, name: str) -> Progress:
        """The progress of the stage of that name."""
        before = sum(SHARES[stage] for stage in takewhile(lambda stage: stage != name, SHARES))

        def tell(doing: str, fraction: float) -> None:
            self._reached = max(self._reached, before + SHARES[name] * fraction)
            self._progress(doing, self._reached)

        return tell


@dataclass
class TrialPace:
    """How much of the trials of all targets is done, 0 to 1, at the parts of one after another.

    ranks: a ranking of layers is expected, in the share of the first target. Example: of two targets with a ranking,
    2 * 1.5 + 3 = 6 units, the ranking takes 3, the first trial 1; the second target begins at 4.5.
    """

    targets: int
    ranks: bool
    _done: float = field(default=0.0, init=False)
    _end: float = field(default=0.0, init=False)

    def begin(self, index: int) -> None:
        """The target of that number is next."""
        ranking = RANKING if self.ranks else 0.0
        self._done = USUAL * index + (ranking if index else 0.0)
        self._end = USUAL * (index + 1) + ranking

    def next_part(self, weight: float = 1.0) -> Callable[[float], float]:
        """A function from the next piece of work's own fraction to that of all work.

        A piece that was not expected gets half of what is left.
        """
        begin, left = self._done, self._end - self._done
        share = weight if weight < left else left / 2
        self._done += share
        whole = USUAL * self.targets + (RANKING if self.ranks else 0.0)
        return lambda part: (begin + share * part) / whole
