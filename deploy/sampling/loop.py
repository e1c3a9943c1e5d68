"""The loop that follows a plan, on arrays: the reference for every other way to run one.

All arithmetic is in the type of the state (float32 in production); coefficients are float64 until they meet it.
The network is a callable, so this file knows neither engines nor tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.errors import OutputError
from deploy.sampling.plan import Plan, PlanRow

Array = NDArray[np.floating[Any]]
PredictNoise = Callable[[Array, PlanRow, int], Array]
"""(state, row, step_index) -> the predicted noise, in the state's shape. It must not keep or change the state."""


@dataclass(frozen=True)
class Sampled:
    """The state after the last step, and how often the network was evaluated."""

    x: Array
    evaluations: int


def starting_state(plan: Plan, noise: Array, picture: Array | None = None) -> Array:
    """Pure noise, or `picture` noised to the plan's first level when the plan begins from a picture."""
    if picture is None:
        return np.array(noise)
    first = plan.rows[0]
    state = np.multiply(picture, first.noise_level, dtype=noise.dtype)
    state += noise * noise.dtype.type(first.sigma)
    return state


def run_plan(
    plan: Plan,
    predict_noise: PredictNoise,
    x: Array,
    noise: Callable[[int], Array],
    *,
    adjust_estimate: Callable[[Array, PlanRow, int], Array] | None = None,
) -> Sampled:
    """The sample that `plan` makes from the starting state `x`, which is left as it was.

    `noise(step_index)` gives the fresh noise of a step; it is asked only where the plan adds some.
    `adjust_estimate(x0, row, step_index)` may change each estimate of the picture, after clipping and before use.
    """
    x = np.array(x)
    scratch = np.empty_like(x)
    # The newest estimate is made in the array of the oldest, which no later step needs.
    estimates = [np.empty_like(x) for _ in range(plan.history)]
    evaluations = 0
    for index, row in enumerate(plan.rows):
        predicted = predict_noise(x, row, index)
        evaluations += 1
        newest = estimates.pop()
        estimate_picture(row, x, predicted, out=newest, scratch=scratch)
        check_finite(newest, predicted, row, index, len(plan))
        if row.clip:
            np.clip(newest, -1.0, 1.0, out=newest)
        if adjust_estimate is not None:
            newest[...] = adjust_estimate(newest, row, index)
        estimates.insert(0, newest)
        advance(row, x, estimates, noise(index) if row.noise else None, scratch)
    return Sampled(x, evaluations)


def estimate_picture(row: PlanRow, x: Array, predicted: Array, *, out: Array, scratch: Array) -> None:
    """`out` holds (x - sigma*predicted)/noise_level; values that are not finite pass without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(predicted, -row.sigma / row.noise_level, out=out)
        np.multiply(x, 1.0 / row.noise_level, out=scratch)
        out += scratch


def advance(row: PlanRow, x: Array, estimates: list[Array], noise: Array | None, scratch: Array) -> None:
    """`x` holds the state after the step; `estimates` are newest first."""
    x *= x.dtype.type(row.x)
    for factor, estimate in zip(row.x0, estimates, strict=False):  # later steps may look further back than this one
        np.multiply(estimate, factor, out=scratch)
        x += scratch
    if noise is not None:
        np.multiply(noise, row.noise, out=scratch)
        x += scratch


def check_finite(estimate: Array, predicted: Array, row: PlanRow, step_index: int, steps: int) -> None:
    """Nothing happens if the estimate is finite; else the message names the step, the values and the cure."""
    # A NaN or an infinity anywhere makes the smallest or the largest value one: two passes, no array of flags.
    with np.errstate(invalid="ignore"):
        if np.isfinite(estimate.min()) and np.isfinite(estimate.max()):
            return
    finite = predicted[np.isfinite(predicted)]
    values = f"from {finite.min():.3g} to {finite.max():.3g}" if finite.size else "absent"
    where = f"Step {step_index + 1} of {steps} (noise level {row.noise_level:.4g}, timestep {row.timestep})"
    raise OutputError(
        f"{where}: of {predicted.size} values that the network predicted {predicted.size - finite.size} are not finite "
        f"and the others {values}, which gives no picture; use a wider precision (fp32) or another engine, and check "
        "the model with `idm-deploy verify`."
    )
