"""How long one step takes in float and in int8 on this machine, taking turns."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median

import numpy as np

from calibration.targets.table import target_named
from deploy.bundle import Bundle
from deploy.images.tiles import Window
from deploy.int8.installed import backend_of_target
from deploy.int8.trying.comparison import int8_upscaler
from deploy.picture.upscaler import Upscaler
from deploy.sampling.plan import PlanRow


def runs_in_int8(target: str) -> bool:
    """Whether this CPU runs a target's graphs in int8, and on the target's own backend."""
    described = target_named(target)
    return described.on_cpu and backend_of_target(target) == described.tried_on


def seconds_per_step(
    bundle: Bundle, targets: Sequence[str], side: int, *, threads: int | None = None, rounds: int = 5
) -> dict[str, tuple[float, float]]:
    """Per target that runs in int8 here, the median seconds of one step in float32 and in int8 on its backend."""
    with ExitStack() as stack:
        steps: dict[str, Callable[[], object]] = {}
        for target in [name for name in targets if runs_in_int8(name)]:
            in_float = stack.enter_context(Upscaler(bundle, target_named(target).tried_on, "fp32", threads))
            in_int8 = stack.enter_context(int8_upscaler(bundle, target, threads))
            steps[f"{target} float"] = _step(in_float, side)
            steps[f"{target} int8"] = _step(in_int8, side)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - began)
    names = dict.fromkeys(name.split()[0] for name in steps)
    return {name: (median(seconds[f"{name} float"]), median(seconds[f"{name} int8"])) for name in names}


def _step(upscaler: Upscaler, side: int) -> Callable[[], object]:
    """One evaluation of an empty picture or latent; it has run twice already."""
    model = upscaler.model
    size = model.state_size((max(side // 4, 1),) * 2, (side, side))
    condition = model.blank_condition((max(side // 4, 1),) * 2, (side, side), Window.whole(size))
    (row,) = model.rows([PlanRow.evaluation(0.5, 500)])
    x = np.zeros((1, model.channels, *size), np.float32)
    for _ in range(2):
        model.predict(x, condition, row)
    return lambda: model.predict(x, condition, row)
