"""Timestep ranges over noise levels: half-open, sorted, gapless, checked when made.

A noise level is sqrt(alpha_bar), from 0 (noise alone) to 1 (no noise). Range k holds edges[k] <= level < edges[k + 1];
the last one holds 1 as well. Ranges made for one plan therefore serve any other plan: each of its levels lies in
exactly one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.errors import RangeError


@dataclass(frozen=True)
class TimestepRanges:
    """The edges of K ranges: K + 1 noise levels rising from 0.0 to 1.0."""

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse edges that do not cover every level from 0 to 1 exactly once."""
        edges = self.edges
        rising = all(low < high for low, high in pairwise(edges))
        if len(edges) < 2 or edges[0] != 0.0 or edges[-1] != 1.0 or not rising:
            raise RangeError(f"making timestep ranges: edges rising from 0.0 to 1.0 were expected, found {edges}.")

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self.edges) - 1

    def index_of(self, noise_level: float) -> int:
        """The index of the range that holds a noise level."""
        if not 0.0 <= noise_level <= 1.0:
            raise RangeError(
                f"looking up the timestep range of noise level {noise_level}: levels lie between 0 and 1; pass"
                " sqrt(alpha_bar), not a timestep."
            )
        return min(int(np.searchsorted(self.edges, noise_level, side="right")), len(self)) - 1


ONE_RANGE = TimestepRanges((0.0, 1.0))
"""A single range: the same scales at every noise level."""


def ranges_from_steps(
    noise_levels: Sequence[float] | NDArray[np.floating], boundaries: Sequence[int]
) -> TimestepRanges:
    """The ranges whose edges lie half-way between the noise levels of the steps that a partition separates.

    noise_levels: of the plan's steps in their order, strictly rising (as in sampling) or strictly falling.
    boundaries: of the partition, from 0 to the number of steps.
    """
    levels = np.asarray(noise_levels, dtype=np.float64)
    differences = np.diff(levels)
    if levels.size == 0 or not ((differences > 0).all() or (differences < 0).all()):
        raise RangeError(
            f"making timestep ranges from steps: noise levels that strictly rise or fall were expected, found"
            f" {levels.tolist()}."
        )
    inside = list(boundaries[1:-1])
    if [0, *inside, levels.size] != list(boundaries) or sorted(set(boundaries)) != list(boundaries):
        raise RangeError(
            f"making timestep ranges from {levels.size} steps: boundaries rising from 0 to {levels.size} were"
            f" expected, found {list(boundaries)}."
        )
    middles = sorted((float(levels[step - 1]) + float(levels[step])) / 2 for step in inside)
    return TimestepRanges((0.0, *middles, 1.0))
