"""Every contender on every original: figures per picture, means with intervals, and the pictures themselves."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.errors import DeployError, PlanError
from deploy.evaluation.contenders import BACK_PROJECTED, Contender
from deploy.evaluation.measures import MEASURES, figures_of
from deploy.evaluation.originals import Original, Pixels
from deploy.images.metrics import Interval, fidelity, mean_with_interval, paired_difference
from engines.errors import EngineError

Progress = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One contender's figures: one value per original and measure (of several draws, their mean)."""

    name: str
    description: str
    figures: dict[str, tuple[float, ...]]
    pictures: tuple[Pixels, ...] = ()
    """Its first draw of every original."""
    seconds: float | None = None
    """Median time of one draw of one picture, everything included; None for a row made of other rows' pictures."""
    failure: str | None = None

    def interval(self, measure: str) -> Interval:
        """The mean over the originals for which the measure is defined; not a number if there is none."""
        values = self.figures[measure]
        if all(math.isnan(value) for value in values):
            return Interval(mean=math.nan, half_width=None, count=0)
        return mean_with_interval(values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """All rows, in the order in which they were made."""

    scale: float
    samples: int
    originals: tuple[Original, ...]
    rows: tuple[Row, ...]
    reference: str | None = None
    """The row that others approximate, such as float for int8."""

    def fidelity(self, row: Row) -> Interval | None:
        """PSNR in dB between the first draws of a row and of the reference, which began at the same noise.

        None for the reference itself, without one, and for a row that is a mean of draws.
        """
        other = self._sound_row(self.reference)
        if other is None or other is row or row.seconds is None:
            return None
        return mean_with_interval([fidelity(a, b) for a, b in zip(row.pictures, other.pictures, strict=True)])

    def _sound_row(self, name: str | None) -> Row | None:
        return next((row for row in self.rows if row.name == name and row.failure is None), None)

    def gain(self, row: Row, measure: str = "psnr", over: str = BACK_PROJECTED) -> Interval | None:
        """By how much a row is ahead of another, picture by picture; None for the other itself, or without it."""
        other = self._sound_row(over)
        if other is None or other is row or row.failure is not None:
            return None
        return paired_difference(row.figures[measure], other.figures[measure])


def evaluate(
    originals: Sequence[Original],
    contenders: Iterable[Contender],
    *,
    scale: float,
    samples: int = 1,
    reference: str | None = None,
    progress: Progress,
) -> Evaluation:
    """Every contender on every original. With several samples, a random one is drawn as often: its row holds the mean
    of the draws' figures, and a row of its own the figures of the mean of the draws.

    `reference` names the contender whose pictures the others' are compared with as well. One that fails has a row that
    says why; the others go on.
    """
    if samples < 1:
        raise PlanError(f"An evaluation needs at least 1 sample of each picture, found {samples}.")
    contenders = list(contenders)
    rows: list[Row] = []
    for index, contender in enumerate(contenders):

        def tell(share: float, index: int = index, name: str = contender.name) -> None:
            progress(name, (index + share) / len(contenders))

        try:
            rows += _rows_of(contender, originals, samples if contender.is_random else 1, tell)
        except (DeployError, EngineError) as error:
            rows.append(Row(name=contender.name, description="", figures={}, failure=str(error)))
    return Evaluation(scale=scale, samples=samples, originals=tuple(originals), rows=tuple(rows), reference=reference)


def _rows_of(
    contender: Contender, originals: Sequence[Original], samples: int, tell: Callable[[float], None]
) -> list[Row]:
    description = contender.describe()
    of_draws: list[dict[str, float]] = []
    of_mean: list[dict[str, float]] = []
    first: list[Pixels] = []
    means: list[Pixels] = []
    seconds: list[float] = []
    for number, original in enumerate(originals):
        draws = []
        for draw in range(samples):
            began = time.perf_counter()
            draws.append(contender.enlarged(original, draw))
            seconds.append(time.perf_counter() - began)
            tell((number + (draw + 1) / samples) / len(originals))
        of_draws.append(_mean_figures([figures_of(one, original) for one in draws]))
        first.append(draws[0])
        if samples > 1:
            means.append(mean_picture(draws))
            of_mean.append(figures_of(means[-1], original))
    rows = [_row(contender.name, description, of_draws, first, float(np.median(seconds)))]
    if samples > 1:
        text = f"{contender.name}, mean of {samples}"
        rows.append(_row(text, f"the mean of {samples} draws; {description}", of_mean, means, None))
    return rows


def mean_picture(draws: Sequence[Pixels]) -> Pixels:
    """The mean of several draws of one picture, rounded to 8 bits as a picture is."""
    return np.rint(np.mean(np.stack(draws), axis=0, dtype=np.float64)).astype(np.uint8)


def _mean_figures(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}


def _row(
    name: str, description: str, figures: Sequence[dict[str, float]], pictures: list[Pixels], seconds: float | None
) -> Row:
    values = {measure: tuple(one[measure] for one in figures) for measure in MEASURES}
    return Row(name=name, description=description, figures=values, pictures=tuple(pictures), seconds=seconds)


def report_from_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Everything measured, in JSON's types; a value that is not finite is null."""
    rows: list[dict[str, Any]] = []
    for row in evaluation.rows:
        if row.failure is not None:
            rows.append({"name": row.name, "failure": row.failure})
            continue
        figures = {
            measure: _interval_json(row.interval(measure)) | {"values": [_finite(v) for v in row.figures[measure]]}
            for measure in MEASURES
        }
        gain, kept = evaluation.gain(row), evaluation.fidelity(row)
        rows.append(
            {
                "name": row.name,
                "description": row.description,
                "seconds": row.seconds,
                "figures": figures,
                "psnr_over_back_projection": None if gain is None else _interval_json(gain),
                "fidelity": None if kept is None else _interval_json(kept),
            }
        )
    return {
        "scale": evaluation.scale,
        "samples": evaluation.samples,
        "originals": [
            {"name": one.name, "size": list(one.size), "lr": [one.lr.shape[1], one.lr.shape[0]]}
            for one in evaluation.originals
        ],
        "reference": evaluation.reference,
        "measures": {name: measure.meaning for name, measure in MEASURES.items()},
        "rows": rows,
    }


def _interval_json(interval: Interval) -> dict[str, Any]:
    half = interval.half_width
    return {"mean": _finite(interval.mean), "half_width": None if half is None else _finite(half)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
