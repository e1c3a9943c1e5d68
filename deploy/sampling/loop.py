"""The loop that follows a plan. The network is a callable, so this file knows neither engines nor tiles."""

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.sampling.plan import Plan, PlanRow
from deploy.sampling.step import advance, check_finite, estimate_picture, noise_in_state

Array = NDArray[np.floating[Any]]
PredictNoise = Callable[[Array, PlanRow, int], Array]
"""(state, row, step_index) -> the predicted noise, in the state's shape. It must not keep or change the state."""

Strip = EllipsisType | tuple[slice, ...]
"""Part of a state, to index with."""


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
    adjust_estimate: Callable[[Array, PlanRow, int], None] | None = None,
) -> Array:
    """The sample that `plan` makes from the starting state `x`, which is left as it was; see `take_steps`."""
    x = np.array(x)
    take_steps(plan, predict_noise, x, lambda index, _: noise(index), adjust_estimate=adjust_estimate)
    return x


def take_steps(
    plan: Plan,
    predict_noise: PredictNoise,
    x: Array,
    noise: Callable[[int, Any], Array],
    *,
    strips: Sequence[Strip] = (...,),
    empty: Callable[[Array], Array] = np.empty_like,
    after_strip: Callable[[], None] = lambda: None,
    adjust_estimate: Callable[[Array, PlanRow, int], None] | None = None,
) -> None:
    """`x`, changed in place, is the sample that `plan` makes of it. The network is evaluated once per row.

    `noise(step_index, strip)` gives the fresh noise of a step; it is asked only where the plan adds some.
    `adjust_estimate(x0, row, step_index)` may change each estimate of the picture in place, after clipping and before
    use. Between evaluations the work is done on one of `strips` after the other, the largest first; `empty` makes
    arrays like the state.
    """
    # The newest estimate is made in the array of the oldest, which no later step needs.
    estimates = [empty(x) for _ in range(plan.history)]
    noises = [empty(x) for _ in range(plan.earlier_noises)]
    scratch = np.empty_like(x[strips[0]], order="C")
    left = np.empty_like(scratch) if noises else scratch
    for index, row in enumerate(plan.rows):
        predicted = predict_noise(x, row, index)
        newest = estimates.pop()
        for strip in strips:
            part = newest[strip]
            estimate_picture(row, x[strip], predicted[strip], out=part, scratch=_room(scratch, part))
            check_finite(part, predicted[strip], row, index, len(plan))
            if row.clip:
                np.clip(part, -1.0, 1.0, out=part)
            after_strip()
        if adjust_estimate is not None:
            adjust_estimate(newest, row, index)
        estimates.insert(0, newest)
        for strip in strips:
            part = x[strip]
            fresh = noise(index, strip) if row.noise else None
            if noises:
                own = _room(left, part)
                noise_in_state(row, part, newest[strip], out=own, scratch=_room(scratch, part))
            earlier = [before[strip] for before in noises]
            advance(row, part, [estimate[strip] for estimate in estimates], fresh, _room(scratch, part), earlier)
            if noises:
                noises[-1][strip] = own  # in the array of the oldest, which no later step needs
            after_strip()
        noises = noises[-1:] + noises[:-1]


def _room(scratch: Array, part: Array) -> Array:
    """As much of the scratch as the part takes; the last strip is smaller."""
    return scratch[tuple(slice(size) for size in part.shape)]
