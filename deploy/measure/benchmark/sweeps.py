"""How the cost of whole pictures grows with their number and with the output size, on one engine."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice
from deploy.engine.turns import Contender, Progress, Split, Timing, measure, timing_of
from deploy.images.sizes import Size
from deploy.measure.benchmark.pictures import PictureMaker, lr_size_of, random_pictures
from deploy.measure.benchmark.settings import BenchSettings
from deploy.sampling.choices import Choices

Case = tuple[int, Size]
"""How many pictures, and their (height, width)."""


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """Times of `count` pictures at (height, width). tiles: per step; more than one where memory was too little.

    at_once: how many of the pictures ran together; less than `count` where memory was too little, or where more
    are never run together.
    """

    timing: Timing
    count: int
    size: Size
    tiles: int
    at_once: int

    @property
    def pictures_per_second(self) -> float:
        """At the median."""
        return self.count / self.timing.median_ms * 1e3

    @property
    def us_per_pixel(self) -> float:
        """Microseconds per output pixel, at the median."""
        return self.timing.median_ms * 1e3 / (self.count * self.size[0] * self.size[1])


def sweep(
    bundle: Bundle,
    settings: BenchSettings,
    chosen: tuple[EngineChoice, Choices],
    cases: Sequence[Case],
    progress: Progress,
) -> list[SweepRow]:
    """One row per case, of one and the same input size, by one engine and way to sample."""
    lr = lr_size_of(bundle, settings)
    choice, choices = chosen
    with ExitStack() as stack:
        maker = PictureMaker(bundle, choice, stack)
        turns = [_Turns(case, lr, maker, choices) for case in cases]
        contenders = [Contender(turn.name, turn) for turn in turns]
        measure(contenders, settings.sweep_rounds, time.perf_counter, progress)
    return [turn.row(timing_of(contender)) for turn, contender in zip(turns, contenders, strict=True)]


@dataclass
class _Turns:
    """The turns of one case; called, they make its pictures once."""

    case: Case
    lr: Size
    maker: PictureMaker
    choices: Choices
    tiles: int = field(default=1, init=False)
    at_once: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        count, (height, width) = self.case
        return f"{count} at {width}x{height}"

    def __call__(self) -> Split:
        count, size = self.case
        split = self.maker.make(random_pictures(self.lr, count), size, self.choices)
        self.tiles, self.at_once = self.maker.tiles, self.maker.graphs.at_once
        return split

    def row(self, timing: Timing) -> SweepRow:
        count, size = self.case
        named = replace(timing, name=self.name)
        return SweepRow(timing=named, count=count, size=size, tiles=self.tiles, at_once=self.at_once)
