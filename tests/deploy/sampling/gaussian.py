"""Gaussian data, for which the ideal network and the exact solution are formulas.

With x0 ~ N(mean, deviation^2), a state at (alpha, sigma) is N(alpha*mean, alpha^2*deviation^2 + sigma^2), and the
probability-flow equation keeps the standardised state constant.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.sampling.loop import run_plan
from deploy.sampling.plan import Plan, PlanRow

MEAN, DEVIATION = 0.3, 0.4
Array = NDArray[np.floating[Any]]


def spread(row: PlanRow) -> float:
    """Standard deviation of the state before the step."""
    return float(np.hypot(row.noise_level * DEVIATION, row.sigma))


def ideal_noise(x: Array, row: PlanRow, _step_index: int = 0) -> Array:
    """The expected noise given the state: what a perfectly trained network predicts."""
    return row.sigma * (x - row.noise_level * MEAN) / spread(row) ** 2


def solver_error(plan: Plan) -> float:
    """Largest deviation from the exact solution up to the last level, followed by the exact estimate there.

    The jump from the last level to the clean picture is an estimate in every equation, however many steps.
    """
    x = np.linspace(-2, 2, 9)
    sampled = run_plan(plan, ideal_noise, x, lambda _: np.full_like(x, np.nan))
    first, last = plan.rows[0], plan.rows[-1]
    at_last = last.noise_level * MEAN + (x - first.noise_level * MEAN) / spread(first) * spread(last)
    exact = (at_last - last.sigma * ideal_noise(at_last, last)) / last.noise_level
    return float(np.abs(sampled - exact).max())


def sampled_moments(plan: Plan) -> tuple[float, float]:
    """Mean and standard deviation of what `plan` makes of N(0, 1), for equations without memory.

    The ideal estimate is linear in the state, so each update maps moments to moments exactly.
    """
    mean, variance = 0.0, 1.0
    for row in plan.rows:
        slope = row.noise_level * DEVIATION**2 / spread(row) ** 2  # x0 = slope*x + offset
        offset = MEAN * (1 - slope * row.noise_level)
        factor = row.x + row.x0[0] * slope
        mean, variance = factor * mean + row.x0[0] * offset, factor**2 * variance + row.noise**2
    return mean, float(np.sqrt(variance))
