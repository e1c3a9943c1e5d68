"""How far a calibration is, told as one fraction over all of its stages."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

Progress = Callable[[str, float], None]

SHARES: Final = {
    "trajectories": 0.12,
    "gathering": 0.43,
    "scales": 0.05,
    "decoder": 0.05,
    "trying": 0.25,
    "correcting": 0.1,
}
"""Of the time, by stage in order, as seen on the demo models; IDM has no decoder to calibrate."""


@dataclass(frozen=True)
class Stages:
    """Makes the progress of a stage, which counts from 0 to 1, into that of the whole."""

    progress: Progress

    def __call__(self, name: str) -> Progress:
        """The progress of the stage of that name."""
        before = sum(SHARES[stage] for stage in takewhile(lambda stage: stage != name, SHARES))

        def tell(doing: str, fraction: float) -> None:
            self.progress(doing, before + SHARES[name] * fraction)

        return tell
