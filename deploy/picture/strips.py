"""The loop that follows a plan on states of any size: like `deploy.sampling.loop.run_plan`, in strips of rows.

A strip at a time, the arithmetic between two network calls needs next to no memory of its own and stays in the
processor's cache, and a state on disk is read and written once per pass.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deploy.images.tiles import strips_of_rows
from deploy.picture.memory import StateArrays
from deploy.sampling.loop import advance, check_finite, estimate_picture
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
    first = plan.rows[0]
    state = arrays.empty(shape)
    for rows in strips_of_rows(shape):
        field = noise(START_NOISE, rows)
        if guess is None:
            state[:, :, rows] = field
        else:
            state[:, :, rows] = np.multiply(guess(rows), first.noise_level, dtype=np.float32)
            state[:, :, rows] += field * np.float32(first.sigma)
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
    after_step: Callable[[int, Float32], None] | None = None,
) -> int:
    """`x`, changed in place, is the sample that `plan` makes of it. Returned is how often the network was evaluated.

    `adjust_estimate` may change each estimate of the picture in place, after clipping and before use;
    `after_step(step_index, x)` looks at the state after each step.
    """
    # The newest estimate is made in the array of the oldest, which no later step needs.
    estimates = [arrays.empty(x.shape) for _ in range(plan.history)]
    strips = list(strips_of_rows(x.shape))
    scratch = np.empty_like(x[:, :, strips[0]], order="C")
    evaluations = 0
    for index, row in enumerate(plan.rows):
        predicted = predict_noise(x, row, index)
        evaluations += 1
        newest = estimates.pop()
        for rows in strips:
            part, room = newest[:, :, rows], scratch[:, :, : rows.stop - rows.start]
            estimate_picture(row, x[:, :, rows], predicted[:, :, rows], out=part, scratch=room)
            check_finite(part, predicted[:, :, rows], row, index, len(plan))
            if row.clip:
                np.clip(part, -1.0, 1.0, out=part)
            arrays.trim()
        if adjust_estimate is not None:
            adjust_estimate(newest)
        estimates.insert(0, newest)
        for rows in strips:
            fresh = noise(index, rows) if row.noise else None
            room = scratch[:, :, : rows.stop - rows.start]
            advance(row, x[:, :, rows], [kept[:, :, rows] for kept in estimates], fresh, room)
            arrays.trim()
        if after_step is not None:
            after_step(index, x)
    return evaluations


def state_arrays_needed(plan: Plan) -> int:
    """How many arrays of the state's shape a run holds: the state, the estimates and the predicted noise."""
    return 2 + plan.history
