"""How far a calibration is, told as one fraction over all of its stages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

Progress = Callable[[str, float], None]

SHARES: Final = {
    "trajectories": 0.06,
    "gathering": 0.62,
    "scales": 0.02,
    "means": 0.02,
    "decoder": 0.04,
    "trying": 0.2,
    "correcting": 0.04,
}
"""Of the time, by stage in order. Seen on the full-size IDM (three targets, six pictures, 31 minutes on two cores):
0.04, 0.73, 0.01, not asked for, no decoder, 0.20, 0.02; more pictures add to the first two and the last."""

USUAL: Final = 2.5
"""Trials of a target: one with all layers in int8, one with the most sensitive in float, seldom more."""

RANKING: Final = 5.0
"""Trials that last as long as the ranking of layers: 155 s against about 30 s on the same model."""


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
    2 * 2.5 + 5 = 10 units, the first trial takes 1, the ranking 5, the next trial 1; the second target begins at 7.5.
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
        """Of the next piece of work, the fraction of all of it at 0 to 1; half of what is left if it was unexpected."""
        begin, left = self._done, self._end - self._done
        share = weight if weight < left else left / 2
        self._done += share
        whole = USUAL * self.targets + (RANKING if self.ranks else 0.0)
        return lambda part: (begin + share * part) / whole
