"""How far the range of each tensor really moves over the steps, before anything is decided about ranges."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calibration.errors import StatisticsError
from calibration.observe.statistics import Histogram


@dataclass(frozen=True, kw_only=True)
class Movement:
    """The absolute maxima of one tensor, in step order, and their largest over their smallest."""

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
        return statistics.median(tensor.ratio for tensor in self.tensors)

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
