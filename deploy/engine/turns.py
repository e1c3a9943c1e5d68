"""Contenders that take turns, so that a machine whose speed drifts slows all of them; quoted are medians and ratios."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from deploy.errors import DeployError
from engines.errors import EngineError
from engines.progress import Progress

Clock = Callable[[], float]


@dataclass(frozen=True)
class Split:
    """Seconds of a turn by part, from a contender that times itself; the turn took their sum."""

    seconds: Mapping[str, float]


@dataclass
class Contender:
    """Something that does its work once when called. If it returns a Split, that is its time."""

    name: str
    step: Callable[[], Any]
    times_ms: list[float] = field(default_factory=list)
    parts_ms: list[Mapping[str, float]] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One contender's times in milliseconds, one per round, and of its parts; or why it has none."""

    name: str
    times_ms: tuple[float, ...] = ()
    parts_ms: tuple[Mapping[str, float], ...] = ()
    failure: str | None = None

    @property
    def median_ms(self) -> float:
        """The middle time."""
        return median(self.times_ms)

    @property
    def part_medians_ms(self) -> dict[str, float]:
        """The middle time of each part; empty for a contender that has no parts."""
        return {part: median(turn[part] for turn in self.parts_ms) for part in (self.parts_ms or ({},))[0]}


def measure(contenders: Sequence[Contender], rounds: int, clock: Clock, progress: Progress) -> None:
    """Each contender once to warm up, then `rounds` rounds in which all take their turn.

    One that fails is out from then on, with the reason; the others go on.
    """
    total = len(contenders) * (rounds + 1)
    for turn in range(rounds + 1):
        for number, contender in enumerate(contenders):
            if contender.failure is None:
                progress(contender.name, (turn * len(contenders) + number) / total)
                _take_turn(contender, clock, counted=turn > 0)


def _take_turn(contender: Contender, clock: Clock, *, counted: bool) -> None:
    try:
        begin = clock()
        result = contender.step()
        elapsed = clock() - begin
    except (EngineError, DeployError, MemoryError) as error:
        contender.failure = str(error) or "memory ran out"
        return
    if not counted:
        return
    parts = result.seconds if isinstance(result, Split) else {}
    contender.times_ms.append((sum(parts.values()) if parts else elapsed) * 1e3)
    if parts:
        contender.parts_ms.append({name: seconds * 1e3 for name, seconds in parts.items()})


def timing_of(contender: Contender) -> Timing:
    """What was measured; nothing but the reason if it failed, for half of the rounds is no fair median."""
    if contender.failure is not None:
        return Timing(name=contender.name, failure=contender.failure)
    return Timing(name=contender.name, times_ms=tuple(contender.times_ms), parts_ms=tuple(contender.parts_ms))


def ratios(timings: Sequence[Timing]) -> Mapping[str, float]:
    """How many times faster than the first timing each is, by medians; those without times are left out."""
    timed = [timing for timing in timings if timing.times_ms]
    return {timing.name: timed[0].median_ms / timing.median_ms for timing in timed}
