"""Every contender on every original: figures per picture, means with intervals, and the pictures themselves.

One contender after the other makes all its pictures, those of one size in a row: an engine that is compiled for a size
or a number of steps would else be compiled again for every picture, and that would be timed.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from deploy.errors import DeployError, PlanError
from deploy.images.sizes import Size
from deploy.measure.evaluation.contenders import BACK_PROJECTED, About, Contender
from deploy.measure.evaluation.measures import MEASURES, Measure, Result, figures_of
from deploy.measure.evaluation.originals import Original, Pixels, photographs_from_originals
from deploy.measure.evaluation.protocols import PLAIN
from deploy.measure.metrics import Interval, fidelity, mean_with_interval, paired_difference
from engines.errors import EngineError
from engines.progress import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """The figures of a contender: a value per original and measure (of several draws, their mean)."""

    name: str
    about: About
    figures: dict[str, tuple[float, ...]]
    pictures: tuple[Pixels, ...] = ()
    """Its first draw of every original, or the mean of its draws."""
    seconds: float = math.nan
    """Median time of one picture, everything included; of a mean of draws, of all of them."""
    draws: int = 1
    """More than 1: the row of the mean of as many draws."""
    photographs: tuple[str, ...] | None = None
    """Which photograph each original is of; None: each is of its own."""
    failure: str | None = None

    def interval(self, measure: str) -> Interval:
        """The mean over the originals for which the measure is defined; not a number if there is none."""
        values = self.figures[measure]
        if all(math.isnan(value) for value in values):
            return Interval(mean=math.nan, half_width=None, count=0, photographs=0)
        return mean_with_interval(values, self.photographs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All rows at one scale, in the order in which their contenders were given."""

    scale: float
    samples: int
    originals: tuple[Original, ...]
    rows: tuple[Row, ...]
    measures: Mapping[str, Measure] = field(default_factory=lambda: MEASURES)
    protocol: str = field(default_factory=PLAIN.line)
    """How the originals became what is compared, in one line."""

    @property
    def photographs(self) -> tuple[str, ...]:
        """Which photograph each original is of."""
        return photographs_from_originals(self.originals)

    def sound_rows(self) -> list[Row]:
        """The rows of the contenders that did not fail."""
        return [row for row in self.rows if row.failure is None]

    def sound_row(self, name: str | None) -> Row | None:
        """The row of that name, if its contender did not fail."""
        return next((row for row in self.sound_rows() if row.name == name), None)

    def fidelities(self, row: Row) -> tuple[float, ...] | None:
        """PSNR in dB between a row's pictures and those of its counterpart, which began at the same noise.

        None without a counterpart, and for a row that is a mean of draws.
        """
        return self._fidelities.get(row.name)

    @cached_property
    def _fidelities(self) -> dict[str, tuple[float, ...]]:
        fidelities = {}
        for row in self.sound_rows():
            other = None if row.draws > 1 else self.sound_row(row.about.counterpart)
            if other is not None and other is not row:
                pairs = zip(row.pictures, other.pictures, strict=True)
                fidelities[row.name] = tuple(fidelity(a, b) for a, b in pairs)
        return fidelities

    def fidelity(self, row: Row) -> Interval | None:
        """The mean of `fidelities`."""
        fidelities = self.fidelities(row)
        return None if fidelities is None else mean_with_interval(fidelities, self.photographs)

    def gain(self, row: Row, measure: str = "psnr", over: str = BACK_PROJECTED) -> Interval | None:
        """By how much a row is ahead of another, picture by picture; None for the other itself, or without it."""
        other = self.sound_row(over)
        if other is None or other is row or row.failure is not None:
            return None
        ours, theirs = row.figures[measure], other.figures[measure]
        if all(math.isnan(value - base) and value != base for value, base in zip(ours, theirs, strict=True)):
            return None
        return paired_difference(ours, theirs, self.photographs)


def evaluate(
    originals: Sequence[Original],
    contenders: Iterable[Contender],
    *,
    scale: float,
    samples: int = 1,
    smaller: float | None = None,
    measures: Mapping[str, Measure] = MEASURES,
    protocol: str | None = None,
    progress: Progress,
) -> Evaluation:
    """Every contender on every original. With several samples, a random one is drawn as often: its row holds the mean
    of the draws' figures, and a row of its own the figures of the mean of the draws.

    `smaller` is another, smaller scale, by which every LR picture is enlarged as well, for the consistency between
    scales. A contender that fails has a row that says why; the others go on.
    """
    if samples < 1:
        raise PlanError(f"An evaluation needs at least 1 sample of each picture, found {samples}.")
    tallies = [
        _Tally(
            contender=contender,
            samples=samples if contender.is_random else 1,
            smaller=smaller,
            measures=measures,
            photographs=photographs_from_originals(originals),
        )
        for contender in contenders
    ]
    total = sum(tally.samples for tally in tallies) * len(originals)
    pictures_done = 0
    for tally in tallies:
        for original in originals:
            tally.enlarge_to_smaller(original)
        for original in originals:
            tally.add(original)
            pictures_done += tally.samples
            progress(f"{scale:g}x, {tally.contender.name}, {original.name}", pictures_done / total)
    return Evaluation(
        scale=scale,
        samples=samples,
        originals=tuple(originals),
        rows=tuple(row for tally in tallies for row in tally.rows()),
        measures=measures,
        protocol=protocol or PLAIN.line(),
    )


@dataclass(kw_only=True, eq=False)
class _Tally:
    """What one contender has done so far."""

    contender: Contender
    samples: int
    smaller: float | None
    measures: Mapping[str, Measure]
    photographs: tuple[str, ...]
    about: About | None = None
    of_draws: list[dict[str, float]] = field(default_factory=list)
    of_mean: list[dict[str, float]] = field(default_factory=list)
    first: list[Pixels] = field(default_factory=list)
    means: list[Pixels] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    at_smaller: list[list[Pixels | None]] = field(default_factory=list)
    failure: str | None = None

    def add(self, original: Original) -> None:
        """Measures one more original."""
        self._attempt(original, self._measure)

    def enlarge_to_smaller(self, original: Original) -> None:
        """The pictures that the consistency between scales needs are made, if it is wanted."""
        if self.smaller is not None:
            self._attempt(original, self._keep_smaller)

    def _attempt(self, original: Original, do: Callable[[Original], None]) -> None:
        """Does it and notes a failure; a contender that has failed is left alone."""
        if self.failure is not None:
            return
        try:
            self.about = self.about or self.contender.about(original)
            do(original)
        except (DeployError, EngineError) as error:
            self.failure = f"{original.name}: {error}"

    def _keep_smaller(self, original: Original) -> None:
        size = Size(*(round(side * (self.smaller or 1)) for side in Size.of(original.lr)))
        self.at_smaller.append([self.contender.enlarged(original.lr, size, draw) for draw in range(self.samples)])

    def _measure(self, original: Original) -> None:
        draws = []
        for draw in range(self.samples):
            began = time.perf_counter()
            draws.append(self.contender.enlarged(original.lr, original.size, draw))
            self.seconds.append(time.perf_counter() - began)
        smaller = self.at_smaller[len(self.first)] if self.at_smaller else [None] * self.samples
        results = [
            Result(pixels=a, original=original, smaller=b, draws=draws) for a, b in zip(draws, smaller, strict=True)
        ]
        self.of_draws.append(_mean_figures([figures_of(result, self.measures) for result in results]))
        self.first.append(draws[0])
        if self.samples > 1:
            self.means.append(mean_picture(draws))
            reduced = mean_picture([result for result in smaller if result is not None]) if self.at_smaller else None
            mean = Result(pixels=self.means[-1], original=original, smaller=reduced)
            self.of_mean.append(figures_of(mean, self.measures))

    def rows(self) -> list[Row]:
        """The row of the draws, and that of their mean if there are several."""
        name, about = self.contender.name, self.about or About(text="")
        if self.failure is not None:
            return [Row(name=name, about=about, figures={}, failure=self.failure)]
        seconds = float(np.median(self.seconds))
        rows = [self._row(name, about, self.of_draws, self.first, seconds, 1)]
        if self.samples > 1:
            mean = f"mean of {self.samples}"
            of_draws = replace(
                about,
                text=f"the {mean} draws; {about.text}",
                evaluations=None if about.evaluations is None else about.evaluations * self.samples,
                series=f"{about.series}, {mean}" if about.series else mean,
            )
            seconds *= self.samples
            rows.append(self._row(f"{name}, {mean}", of_draws, self.of_mean, self.means, seconds, self.samples))
        return rows

    def _row(
        self,
        name: str,
        about: About,
        figures: Sequence[dict[str, float]],
        pictures: Sequence[Pixels],
        seconds: float,
        draws: int,
    ) -> Row:
        values = {measure: tuple(figure[measure] for figure in figures) for measure in self.measures}
        return Row(
            name=name,
            about=about,
            figures=values,
            pictures=tuple(pictures),
            seconds=seconds,
            draws=draws,
            photographs=self.photographs,
        )


def mean_picture(draws: Sequence[Pixels]) -> Pixels:
    """The mean of several draws of one picture, rounded to 8 bits as a picture is."""
    return np.rint(np.mean(np.stack(draws), axis=0, dtype=np.float64)).astype(np.uint8)


def _mean_figures(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([draw[name] for draw in figures])) for name in figures[0]}
