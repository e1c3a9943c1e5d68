"""How long pictures take on this machine, learnt from the work itself: nothing is run for the estimate alone.

The time of a picture is that of an evaluation of the network, as often as the plan and the tiles ask for it, and what
is around these: encoding before, decoding and writing after. Both are curves over pixels, known where pictures of about
that size were made: in this run, or in an earlier one with the same bundle, engine, precision and threads, which
`deploy.picture.kept_paces` keeps. Where nothing is known, the first evaluations of the picture itself tell.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median, median_low

from engines.arrays import Float32

STEP = "step"
"""One evaluation of the network, with what the sampler does between two of them."""
FIRST = "around the first"
"""All else of the first picture of a size in a run, in which the engine takes memory, or compiles, for that size."""
AGAIN = "around later ones"
"""All else of the next pictures of that size."""

NEAR = 1.5
"""A time is scaled by pixels this many times more or fewer. Where all of it were attention's, which grows with the
square of the pixels, that would be wrong by as much; half of it is at 512x512 in the demo model: 25 %."""

BETWEEN = 8.0
"""Between two sizes that are not further apart than this, times lie on a power of the pixels. Where one of the
times is all work per pixel and half of the other attention, as 1 + 1/8 at one pixel and 8 + 8 at eight, that gives 4.2
in the middle instead of 3.8."""

SETTLED = 9
"""Evaluations whose median tells the next one's time: a burst of other work is forgotten soon."""

WRITING_PER_PIXEL = 0.4e-6
"""Seconds to filter, compress and write a pixel of PNG where that was not timed yet; 0.3 to 0.5 us were seen."""

LEAST = 1e-4
"""Seconds around the evaluations, at least: medians may leave less than nothing."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the time of a picture depends on, in pixels: of the state, in a latent fewer, and of the output.

    earlier: of a picture that is made in stages, those before the last one; `output` of the last is the picture's.
    for_speed: the tiles were chosen because they are faster.
    """

    window: int  # of the state, in the largest tile
    tile: int | None  # side of the tiles; None: the whole picture at once
    tiles: int
    steps: int
    state: int
    output: int
    earlier: tuple["Work", ...] = ()
    for_speed: bool = False

    @property
    def evaluations(self) -> int:
        """How often the network is evaluated, in all stages."""
        return self.tiles * self.steps + sum(work.evaluations for work in self.earlier)

    @property
    def stages(self) -> tuple["Work", ...]:
        """Each by itself."""
        return *self.earlier, replace(self, earlier=())


Place = tuple[str, int, int]
"""(STEP, FIRST or AGAIN, pixels of the state, pixels of the output); of a step, both are those of its window."""


def step_place(work: Work) -> Place:
    """Where the time of an evaluation belongs."""
    return STEP, work.window, work.window


class Pace:
    """The times of one bundle on one engine. `kept` are those of earlier runs, as they would be on a quiet machine;
    `crowding` tells how many times longer work takes now."""

    def __init__(self, kept: Mapping[Place, float] | None = None, crowding: Callable[[], float] = lambda: 1.0) -> None:
        self._kept = dict(kept or {})
        self._crowding_now = crowding
        self._timed: dict[Place, deque[float]] = {}

    def seconds(self, work: Work, *, again: bool = False) -> float | None:
        """What such a picture takes, the first of its size in a run or one made `again` after it; None where nothing
        of about its size was timed."""
        steps = [self.step(stage) for stage in work.stages]
        evaluating = 0.0
        for stage, step in zip(work.stages, steps, strict=True):
            if step is None:
                return None
            evaluating += stage.evaluations * step
        around = self.around(work, again=again)
        if around is None and work.state == work.output:
            # What a picture has around its steps is little then: encoding, which takes less than a step, and writing.
            around = sum(step for step in steps if step is not None) + WRITING_PER_PIXEL * work.output
        return None if around is None else evaluating + around

    def step(self, work: Work) -> float | None:
        """What an evaluation of the last stage takes; None where nothing of about its size was timed."""
        return self._near(*step_place(work))

    def around(self, work: Work, *, again: bool = False) -> float | None:
        """What such a picture takes besides its evaluations; None where that was not timed."""
        wanted = [AGAIN, FIRST] if again or self._was_made(work) else [FIRST, AGAIN]
        times = (self._near(kind, work.state, work.output) for kind in wanted)
        return next((seconds for seconds in times if seconds is not None), None)

    def about(self, work: Work, *, again: bool = False) -> float | None:
        """The same from the nearest size there is, however far; None where there is none."""
        if (seconds := self.seconds(work, again=again)) is not None:
            return seconds
        windows = (window for kind, window, _ in (*self._kept, *self._timed) if kind == STEP)
        nearest = _nearest(windows, work.window)
        if nearest is None or (timed := self._near(STEP, nearest, nearest)) is None:
            return None
        per_pixel = timed / nearest
        evaluating = sum((stage.evaluations + 1) * stage.window * per_pixel for stage in work.stages)
        return evaluating + WRITING_PER_PIXEL * work.output

    def add(self, work: Work, steps: Sequence[float], whole: float) -> None:
        """A picture was made in `whole` seconds, an evaluation of each stage in one of `steps`."""
        kind = AGAIN if self._was_made(work) else FIRST
        rest = whole
        for stage, step in zip(work.stages, steps, strict=True):
            self._learn(step_place(stage), step)
            rest -= stage.evaluations * step
        self._learn((kind, work.state, work.output), max(rest, LEAST))

    def _learn(self, place: Place, seconds: float) -> None:
        self._timed.setdefault(place, deque(maxlen=SETTLED)).append(seconds)

    def learnt(self) -> dict[Place, float]:
        """The times of this run, as they would be on a quiet machine."""
        # The machine as it was when the run began, if that was looked at, and as it is now.
        crowded = (self._crowding + self._crowding_now()) / 2
        return {place: median(times) / crowded for place, times in self._timed.items()}

    @cached_property
    def _crowding(self) -> float:
        return self._crowding_now()

    def _was_made(self, work: Work) -> bool:
        return (FIRST, work.state, work.output) in self._timed

    def _near(self, kind: str, state: int, output: int) -> float | None:
        """The time at a place, by what was timed in this run about there, else by what was kept."""
        timed = {at[2]: median(self._timed[at]) for at in _alike(self._timed, kind, state / output)}
        if (now := seconds_at(timed, output)) is not None:
            return now
        seconds = seconds_at({at[2]: self._kept[at] for at in _alike(self._kept, kind, state / output)}, output)
        return None if seconds is None else seconds * self._crowding


class Timing:
    """One picture in the making: what is left of it, judged by its evaluations so far.

    `decoding` tells the seconds from the last evaluation to the last pixel, by trying. It is asked once the work has
    begun, where `pace` does not know what follows the steps: that would come too late to be learnt from.
    """

    def __init__(
        self,
        pace: Pace,
        work: Work,
        decoding: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.work = work
        self._pace = pace
        self._around = pace.around(work)
        self._decoding = decoding
        self._ending: float | None = None
        self._clock = clock
        self._began = self._marked = clock()
        self._stages = work.stages
        self._times: list[list[float]] = [[] for _ in self._stages]  # of the evaluations so far

    def mark(self) -> None:
        """Another evaluation is done."""
        now = self._clock()
        self._times[self._stage].append(now - self._marked)
        self._marked = now

    @property
    def _stage(self) -> int:
        """The number of the stage that the next evaluation belongs to."""
        todo = (len(times) < stage.evaluations for stage, times in zip(self._stages, self._times, strict=True))
        return next((number for number, is_open in enumerate(todo) if is_open), len(self._stages) - 1)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning, but for those of trying the decoding."""
        return self._clock() - self._began

    @property
    def is_telling(self) -> bool:
        """Whether enough is done to judge by: two evaluations, as the first also wakes the engine; of a few, one."""
        return sum(map(len, self._times)) >= (1 if self.work.evaluations <= 3 else 2)

    def left(self) -> float:
        """Seconds to the end. Before the first evaluation, what the pace says; 0 where it says nothing."""
        if not self._times[0]:
            return max((self._pace.about(self.work) or 0.0) - self.elapsed, 0.0)
        steps = self._steps(SETTLED)
        after = self._after() if self._around is None else self._around - max(self._times[0][0] - steps[0], 0.0)
        since = self._clock() - self._marked
        evaluating = sum(
            (stage.evaluations - len(times)) * step
            for stage, times, step in zip(self._stages, self._times, steps, strict=True)
        )
        return max(evaluating + max(after, 0.0) - since, 0.0)

    def finish(self) -> None:
        """The picture is written; its times are learnt."""
        if self._times[-1]:
            self._pace.add(self.work, self._steps(max(map(len, self._times))), self.elapsed)

    def _after(self) -> float:
        """Seconds after the last evaluation, where the pace does not know: tried once, in no evaluation's time."""
        if self._ending is None:
            began = self._clock()
            self._ending = self._decoding() + WRITING_PER_PIXEL * self.work.output
            spent = self._clock() - began
            self._began += spent
            self._marked += spent
        return self._ending

    def _steps(self, latest: int) -> list[float]:
        """The usual time of an evaluation in each stage; of those to come by the pace, else by their pixels."""
        steps: list[float] = []
        for stage, times in zip(self._stages, self._times, strict=True):
            if times:
                steps.append(_usual(times, stage.tiles, latest))
            else:
                kept = self._pace.step(stage)
                steps.append(steps[-1] * stage.window / self._stages[len(steps) - 1].window if kept is None else kept)
        return steps


def _usual(times: Sequence[float], tiles: int, latest: int) -> float:
    """The usual time of an evaluation. The first one also encodes, and so do all tiles of the first step."""
    count = len(times)
    if count <= 2:
        return min(times)
    settled = tiles if count > tiles else 1
    return median_low(times[max(settled, count - latest) :])


def seconds_at(curve: Mapping[int, float], pixels: int) -> float | None:
    """The time at that many pixels, on a curve of some (pixels -> seconds); None where none of them is near."""
    if pixels in curve:
        return curve[pixels]
    below = max((size for size in curve if size < pixels), default=None)
    above = min((size for size in curve if size > pixels), default=None)
    if below is not None and above is not None and above <= BETWEEN * below:
        share = math.log(pixels / below) / math.log(above / below)
        return float(curve[below] ** (1 - share) * curve[above] ** share)
    nearest = _nearest(curve, pixels)
    if nearest is None or _apart(nearest, pixels) > NEAR:
        return None
    return curve[nearest] * pixels / nearest


def seconds_of_rows(blocks: Iterable[Float32], output: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """What all rows of a picture of `output` pixels will take to decode, from the first two blocks of them.

    The first block brings what is done once; the second is one of many alike. The others are not made.
    """
    began, times, pixels = clock(), list[float](), list[int]()
    for block in blocks:
        times.append(clock() - began - sum(times))
        pixels.append(block.shape[2] * block.shape[3])
        if len(times) == 2:
            break
    pixels_done = sum(pixels)
    return sum(times) + (times[-1] * (output - pixels_done) / pixels[-1] if times and output > pixels_done else 0.0)


def crowding(threads: int | None) -> float:
    """How many times longer work on the processor takes because others want it now; 1.0 where there is room for all.

    Four busy programs and two threads of ours on two cores: each gets a third of a core, so three times. Of five looks
    within 10 ms the middle one counts. 1.0 on systems that do not tell.
    """
    cores = os.cpu_count() or 1
    looks = []
    for _ in range(5):
        if (others := _others_running()) is None:
            return 1.0
        looks.append(others)
        time.sleep(0.002)
    return max(1.0, (median(looks) + (threads or cores)) / cores)


def _others_running(source: Path = Path("/proc/loadavg")) -> int | None:
    """Threads on the whole machine that run or want to, but this one."""
    try:
        return max(int(source.read_text().split()[3].split("/")[0]) - 1, 0)
    except (OSError, ValueError, IndexError):
        return None


def _alike(places: Iterable[Place], kind: str, ratio: float) -> list[Place]:
    """The places of one kind at which state and output are in about that ratio."""
    return [place for place in places if place[0] == kind and _apart(place[1] / place[2], ratio) <= NEAR]


def _nearest(known: Iterable[int], wanted: int) -> int | None:
    return min(known, key=lambda pixels: _apart(pixels, wanted), default=None)


def _apart(one: float, other: float) -> float:
    """How many times the larger of two positive numbers is the smaller: 1.0 or more."""
    return max(one / other, other / one)
