"""Where one timestep range ends and the next begins: the K contiguous ranges of least expected error, exactly.

    steps = [density_of(histogram) for histogram in statistics.of_tensor(name)]
    tables.append(range_costs(steps, form, method, relative_weights(steps))[0])
    ...
    partitions = best_partitions(total_costs(tables))
    chosen = choose_partition(partitions, MarginalGain())

Cost. costs[i, j] is the error of the steps i..j-1 if they share one scale. For the mean squared error it needs no
merged histogram: with E[t, s] the error of step t under the scale (and zero point) s of one grid common to all steps,
costs[i, j] = min over s of E[i, s] + ... + E[j-1, s], a running sum.

Partition. best[k, j], the least cost of the first j steps in k ranges, is min over i of best[k-1, i] + costs[i, j]
(Bellman 1961). It is exact and gives all K at once.

Example: three steps, costs 0 alone, costs[0, 2] = 1, costs[1, 3] = 5, costs[0, 3] = 9. One range costs 9; two cost
1 (steps 0 and 1 together, then step 2), not 5; three cost 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from calibration.choose.clipping import (
    Method,
    Mse,
    choose_quantizer,
    expected_error,
    quantizer_of_errors,
    scale_grid,
    window_errors,
)
from calibration.choose.density import Density, mixture_of
from calibration.choose.quantizer import Form, Quantizer
from calibration.errors import ChoiceError, StatisticsError
from engines.arrays import Float64


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Contiguous ranges of steps: range k holds the steps boundaries[k] .. boundaries[k + 1] - 1."""

    boundaries: tuple[int, ...]
    cost: float

    @property
    def ranges(self) -> int:
        """How many ranges there are."""
        return len(self.boundaries) - 1

    def range_of_step(self, step_index: int) -> int:
        """The index of the range that holds a step."""
        if not 0 <= step_index < self.boundaries[-1]:
            raise StatisticsError(f"looking up step {step_index}: the partition covers 0..{self.boundaries[-1] - 1}.")
        return int(np.searchsorted(self.boundaries, step_index, side="right")) - 1


@dataclass(frozen=True, kw_only=True)
class FixedRanges:
    """The way to choose ranges that takes just so many."""

    count: int


@dataclass(frozen=True, kw_only=True)
class MarginalGain:
    """The fewest ranges beyond which no further one is worth it.

    K is taken when every K' > K (up to `most`) lowers the cost by less than `least_gain` of the cost of one range
    per additional range. A tenth is 0.46 dB of the inputs' error, and at most half a decibel of a picture's: less
    cannot be told from chance. (On the demo model a second range gains 5.5 %, all there are 11.5 %. In pictures: from
    0.3 dB less, with ONNX Runtime and 5 steps, to 0.3 dB more, with TensorRT's graphs and 50.)
    """

    least_gain: float = 0.1
    most: int = 8

    def __post_init__(self) -> None:
        """Refuse a gain that is no fraction and a limit below one range."""
        if not 0 < self.least_gain < 1 or self.most < 1:
            raise ChoiceError(
                f"choosing the number of ranges: least gain {self.least_gain} and at most {self.most} ranges were"
                " asked for; the gain must lie between 0 and 1, the limit be at least 1."
            )


RangeCount = FixedRanges | MarginalGain


def range_costs(
    steps: Sequence[Density], form: Form, method: Method, weights: Sequence[float] | Float64 | None = None
) -> tuple[Float64, Quantizer | None]:
    """costs[i, j] of one tensor: the weighted sum of errors of steps i..j-1 under one scale; shape (n, n + 1).

    And the quantizer that all steps share if there is one range; None where only a search tells. weights: one per step,
    1 by default; see `relative_weights`. Entries with j <= i are infinite, there being no such range.
    """
    if not steps:
        raise StatisticsError("measuring what shared scales cost: no step was given; at least one is needed.")
    factors = np.ones(len(steps)) if weights is None else np.asarray(weights, dtype=np.float64)
    if factors.shape != (len(steps),) or not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise ChoiceError(
            f"weighting steps: {len(steps)} finite weights of at least 0 were expected, found shape {factors.shape}"
            f" with values from {factors.min(initial=0)} to {factors.max(initial=0)}."
        )
    if isinstance(method, Mse):
        return _costs_of_least_error(steps, form, method, factors)
    return _costs_of_mixtures(steps, form, method, factors), None


def relative_weights(steps: Sequence[Density]) -> Float64:
    """Weights that make the error of each step a share of the tensor's power there; 0 where it is always zero.

    The layers behind see relative errors: normalisation rescales whatever arrives.
    """
    return np.array([0.0 if step.minimum == step.maximum == 0.0 else 1 / step.power for step in steps])


def _costs_of_least_error(
    steps: Sequence[Density], form: Form, method: Mse, weights: Float64
) -> tuple[Float64, Quantizer]:
    scales = scale_grid(list(steps), form, method)
    errors = np.stack([w * window_errors(step, scales, form) for step, w in zip(steps, weights, strict=True)])
    costs = np.full((len(steps), len(steps) + 1), np.inf)
    running = np.zeros_like(errors[0])
    for first in reversed(range(len(steps))):  # the sum over all steps is the last
        running[:] = 0
        for last in range(first, len(steps)):
            running += errors[last]
            costs[first, last + 1] = running.min()
    return costs, quantizer_of_errors(running, scales, steps, form)


def _costs_of_mixtures(steps: Sequence[Density], form: Form, method: Method, weights: Float64) -> Float64:
    costs = np.full((len(steps), len(steps) + 1), np.inf)
    weighted = [mixture_of([step], [w]) for step, w in zip(steps, weights, strict=True)]
    for first in range(len(steps)):
        mixture = weighted[first]
        for last in range(first, len(steps)):
            if last > first:
                mixture = mixture_of([mixture, weighted[last]])
            costs[first, last + 1] = expected_error(mixture, choose_quantizer(mixture, form, method))
    return costs


def best_partitions(costs: Float64) -> tuple[Partition, ...]:
    """The partition of least cost for K = 1, 2, ... n, by dynamic programming; of equals the earliest boundaries."""
    n = costs.shape[0]
    if costs.shape != (n, n + 1) or n < 1 or not np.isfinite(costs[np.triu_indices(n, 1, n + 1)]).all():
        raise StatisticsError(
            f"partitioning the steps: a table of n rows and n + 1 columns, finite above its diagonal, was expected;"
            f" found shape {costs.shape}."
        )
    best = np.full((n + 1, n + 1), np.inf)
    best[0, 0] = 0.0
    came_from = np.zeros((n + 1, n + 1), dtype=np.intp)
    valid = np.where(np.arange(n)[:, None] < np.arange(n + 1), costs, np.inf)
    for k in range(1, n + 1):
        totals = best[k - 1, :n, None] + valid
        came_from[k] = totals.argmin(axis=0)
        best[k] = totals.min(axis=0)
    return tuple(Partition(boundaries=_walk_back(came_from, k), cost=float(best[k, n])) for k in range(1, n + 1))


def _walk_back(came_from: NDArray[np.intp], ranges: int) -> tuple[int, ...]:
    boundaries = [came_from.shape[1] - 1]
    for k in range(ranges, 0, -1):
        boundaries.append(int(came_from[k, boundaries[-1]]))
    return tuple(reversed(boundaries))


def choose_partition(partitions: Sequence[Partition], count: RangeCount) -> Partition:
    """The partition, among those of `best_partitions`, with the wanted number of ranges or the last that pays."""
    if isinstance(count, FixedRanges):
        if not 1 <= count.count <= len(partitions):
            raise ChoiceError(
                f"partitioning {len(partitions)} steps: {count.count} ranges were asked for; choose from 1 to"
                f" {len(partitions)}."
            )
        return partitions[count.count - 1]
    costs = [partition.cost for partition in partitions[: count.most]]
    worthwhile = count.least_gain * costs[0]
    for k, cost in enumerate(costs):
        if all(cost - further < worthwhile * more or cost <= further for more, further in enumerate(costs[k + 1 :], 1)):
            break
    return partitions[k]


def total_costs(tables: Sequence[Float64]) -> Float64:
    """The sum of the tables of several tensors, each weighted by its maker."""
    if not tables or len({table.shape for table in tables}) != 1:
        raise StatisticsError(
            f"adding up the costs of tensors: tables of one shape were expected, found {[t.shape for t in tables]}."
        )
    return reduce(np.add, tables)
