"""The sampler on states of any size, in strips of rows.

A strip at a time, the arithmetic between two network calls needs next to no memory of its own and stays in the
processor's cache, and a state on disk is read and written once per pass.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import deploy.sampling.loop as loop
from deploy.images.tiles import strips_of_rows
from deploy.picture.memory import StateArrays
from deploy.sampling.noise import START_NOISE
from deploy.sampling.plan import Plan, PlanRow

Float32 = NDArray[np.float32]
Rows = slice
"""Some rows of a state."""


Guess = Callable[[slice], Float32]
RowsOfNoise = Callable[[int, slice], Float32]
"""(step_index, rows) -> those rows of the step's noise field, (batch, channels, rows, width)."""


def starting_state(
    plan: Plan, shape: tuple[int, int, int, int], arrays: StateArrays, noise: RowsOfNoise, guess: Guess | None
) -> Float32:
    """Pure noise, or `guess` noised to the plan's first level."""
    state = arrays.empty(shape)
    for rows in strips_of_rows(shape):
        picture = None if guess is None else guess(rows)
        state[:, :, rows] = loop.starting_state(plan, noise(START_NOISE, rows), picture)
        arrays.trim()
    return state


def run_in_strips(
    plan: Plan,
    predict_noise: Callable[[Float32, PlanRow, int], Float32],
    x: Float32,
    arrays: StateArrays,
    noise: RowsOfNoise,
    *,
    adjust_estimate: Callable[[Float32], None] | None = None,
) -> None:
    """`x`, changed in place, is the sample that `plan` makes of it; see `deploy.sampling.loop.take_steps`."""
    every = slice(None)

    def adjust(estimate: Any, _row: PlanRow, _step: int) -> None:
        if adjust_estimate is not None:
            adjust_estimate(estimate)

    loop.take_steps(
        plan,
        predict_noise,
        x,
        lambda index, strip: noise(index, strip[2]),
        strips=[(every, every, rows) for rows in strips_of_rows(x.shape)],
        empty=lambda like: arrays.empty(like.shape),
        after_strip=arrays.trim,
        adjust_estimate=adjust,
    )


def state_arrays_needed(plan: Plan) -> int:
    """How many arrays of the state's shape a run holds: the state (also turned), what steps keep, the prediction."""
    return 2 + plan.history + plan.earlier_noises + plan.turns
