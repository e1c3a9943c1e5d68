"""Histograms of many tensors, one per step of the plan, counted batch by batch, saved, and read again.

They tell how far the range of a tensor moves over the steps, before timestep ranges are decided.

    statistics = StepStatistics(steps=20)
    statistics.observe("mid.0.conv1.input", step_index=3, values=x)
    np.savez_compressed(file, **statistics.to_arrays())

The result does not depend on the order of the calls. A tensor takes 32 KiB per step: 72 MB for the 110 convolutions
of the full IDM at 20 steps, however many pictures are recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import StatisticsError
from calibration.observe.statistics import BINS, Histogram, Values, histogram_of, merge_histograms

ARRAYS = ("steps", "names", "step_indices", "exponents", "extremes", "counts")


class StepStatistics:
    """One histogram per tensor and step; step indices run from 0 to steps - 1."""

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise StatisticsError(f"recording statistics: {steps} steps were asked for; at least 1 is needed.")
        self.steps = steps
        self._histograms: dict[tuple[str, int], Histogram] = {}

    def observe(self, name: str, step_index: int, values: Values) -> None:
        """Count the values of one tensor at one step; an error names both."""
        try:
            histogram = histogram_of(values)
        except StatisticsError as error:
            raise StatisticsError(f"tensor {name!r} at step {step_index}: {error}") from error
        self.add(name, step_index, histogram)

    def add(self, name: str, step_index: int, histogram: Histogram) -> None:
        """Count the values of a histogram that was made elsewhere."""
        if not 0 <= step_index < self.steps:
            raise StatisticsError(
                f"tensor {name!r}: step {step_index} is outside the plan, whose {self.steps} steps count from 0."
            )
        before = self._histograms.get((name, step_index))
        self._histograms[name, step_index] = merge_histograms(before, histogram) if before else histogram

    def merge(self, other: StepStatistics) -> None:
        """Count everything that `other` has counted."""
        if other.steps != self.steps:
            raise StatisticsError(f"merging statistics of {self.steps} and of {other.steps} steps: they must be equal.")
        for (name, step_index), histogram in other._histograms.items():
            self.add(name, step_index, histogram)

    @property
    def names(self) -> list[str]:
        """The tensors that were observed, sorted."""
        return sorted({name for name, _ in self._histograms})

    def of_tensor(self, name: str) -> list[Histogram]:
        """The histograms of one tensor, one per step; every step must have been observed."""
        missing = [step for step in range(self.steps) if (name, step) not in self._histograms]
        if missing:
            raise StatisticsError(
                f"tensor {name!r}: nothing was recorded at {len(missing)} of {self.steps} steps (first {missing[0]});"
                " record whole trajectories."
            )
        return [self._histograms[name, step] for step in range(self.steps)]

    def overall(self, name: str) -> Histogram:
        """The histogram of one tensor over all steps."""
        return reduce(merge_histograms, self.of_tensor(name))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """All histograms as plain arrays for `numpy.savez`, the same for any order of observation."""
        keys = sorted(self._histograms)
        rows = [self._histograms[key] for key in keys]
        return {
            "steps": np.array(self.steps),
            "names": np.array([name for name, _ in keys], dtype=np.str_),
            "step_indices": np.array([step for _, step in keys], dtype=np.int64),
            "exponents": np.array([row.exponent for row in rows], dtype=np.int64),
            "extremes": np.array([(row.minimum, row.maximum) for row in rows], dtype=np.float64).reshape(-1, 2),
            "counts": np.array([row.counts for row in rows], dtype=np.int64).reshape(-1, BINS),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> StepStatistics:
        """What `to_arrays` described, as read back by `numpy.load`."""
        _check_arrays(arrays)
        statistics = cls(int(arrays["steps"]))
        rows = zip(*(arrays[key] for key in ARRAYS[1:]), strict=True)
        for name, step_index, exponent, (minimum, maximum), counts in rows:
            histogram = Histogram(
                exponent=int(exponent),
                counts=np.array(counts, dtype=np.int64),
                minimum=float(minimum),
                maximum=float(maximum),
            )
            statistics.add(str(name), int(step_index), histogram)
        return statistics


def _check_arrays(arrays: Mapping[str, NDArray[Any]]) -> None:
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise StatisticsError(f"reading saved statistics: no array {missing[0]!r} in the file; record them again.")
    rows = {key: arrays[key].shape[0] for key in ARRAYS[1:]}
    bins = arrays["counts"].shape[1:]
    if len(set(rows.values())) != 1 or bins != (BINS,):
        raise StatisticsError(
            f"reading saved statistics: its arrays have {rows} rows and histograms of shape {bins}; one number of rows"
            f" and {BINS} bins were expected. Record them again."
        )


@dataclass(frozen=True, kw_only=True)
class Movement:
    """How the absolute maximum of one tensor moves: at each step, in order, and the largest over the smallest."""

    name: str
    largest: tuple[float, ...]
    ratio: float


@dataclass(frozen=True, kw_only=True)
class MovementReport:
    """The movement of every tensor, the farthest first."""

    tensors: tuple[Movement, ...]

    @property
    def median_ratio(self) -> float:
        """Half of the tensors move less than this."""
        return median(tensor.ratio for tensor in self.tensors)

    @property
    def largest_ratio(self) -> float:
        """No tensor moves more than this."""
        return self.tensors[0].ratio


def movement_of(name: str, steps: Sequence[Histogram]) -> Movement:
    """The movement of one tensor; a ratio of 1 for one that is zero throughout, infinite if zero at some steps only."""
    largest = tuple(step.largest for step in steps)
    if not largest:
        raise StatisticsError(f"measuring how tensor {name!r} moves: no step was recorded; record whole trajectories.")
    if max(largest) == 0:
        return Movement(name=name, largest=largest, ratio=1.0)
    ratio = max(largest) / min(largest) if min(largest) > 0 else math.inf
    return Movement(name=name, largest=largest, ratio=ratio)


def report_movement(tensors: Mapping[str, Sequence[Histogram]]) -> MovementReport:
    """The movement of all tensors; of equal ratios the first by name comes first."""
    if not tensors:
        raise StatisticsError("measuring how tensors move: no tensor was recorded; record whole trajectories.")
    moved = [movement_of(name, steps) for name, steps in tensors.items()]
    return MovementReport(tensors=tuple(sorted(moved, key=lambda tensor: (-tensor.ratio, tensor.name))))
