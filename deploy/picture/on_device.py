"""A plan's steps as an engine follows them when it keeps the state on its device."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from deploy.picture.strips import RowsOfNoise
from deploy.sampling.plan import Plan
from engines.arrays import Array
from engines.recurrence import NO_BOUNDS, Step


def steps_of_plan(
    plan: Plan, rows: Sequence[Mapping[str, Array]], noise: RowsOfNoise, height: int, begun: Callable[[int], None]
) -> Iterator[Step]:
    """One step per row, made when its turn comes: `begun(step_index)` is called then. Arithmetic as `run_in_strips`."""
    for index, (row, feeds) in enumerate(zip(plan.rows, rows, strict=True)):
        begun(index)
        # As many estimates as there are by now, so that a later step can look as far back as it needs.
        depth = min(plan.history, index + 1)
        shares = (*row.x0[:depth], *[0.0] * (depth - len(row.x0)))
        yield Step(
            feeds=feeds,
            input_share=1.0 / row.noise_level,
            output_share=-row.sigma / row.noise_level,
            bounds=(-1.0, 1.0) if row.clip else NO_BOUNDS,
            keep=row.x,
            estimate_shares=shares,
            fresh=noise(index, slice(0, height)) * np.float32(row.noise) if row.noise else None,
        )
