"""What benchmarks.gpu measures of one engine, precision and batch: parity, a step, whole pictures."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, inputs_of_a_step, sqnr_db, step_feeds, trial_noise_level
from deploy.families.contract import NOTHING_STAYS, Keep
from deploy.families.table import family_named
from deploy.picture.on_device import steps_of_plan
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from engines.errors import EngineError
from engines.forms import Lease
from engines.machine.cuda import Cuda, Stream

Array = NDArray[Any]

GPU_ENGINES = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
STATE = "x"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; size is the output's (height, width)."""

    size: tuple[int, int] = (128, 128)
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    rounds: int = 20
    steps: int = 20
    cache_dir: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One engine, precision and batch. Times are medians; failure says why there are none.

    sqnr_db: of a step against float32 on the CPU. picture_db: PSNR between the pictures after all steps of plain ddim,
    from the same noise; None for the latent family, whose state is no picture.
    """

    engine: str
    precision: str
    batch: int
    sqnr_db: float | None = None
    picture_db: float | None = None
    step_ms: float | None = None
    device_ms: float | None = None
    images_per_second: float | None = None
    captured: bool | None = None
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture as the CPU computes it in float32.

    kept: what stays from step to step. step: the state and row of one step, noise: its answer. plan_rows: what each
    step of the plan feeds besides. state: the picture after all of them.
    """

    kept: dict[str, Array]
    step: dict[str, Array]
    noise: Array
    plan: Plan
    plan_rows: tuple[dict[str, Array], ...]
    state: Array


def prepare(bundle: Bundle, settings: Settings) -> Case:
    """The reference, by ONNX Runtime in float32 on the CPU."""
    manifest = bundle.manifest
    schedule = NoiseSchedule.from_dict(manifest.schedule)
    plan = make_plan(schedule, PlanSettings(steps=settings.steps), rules=family_named(manifest.family).sampling)
    with GraphSet(bundle, EngineChoice()) as graphs:
        kept = step_feeds(graphs, TrialSettings(size=settings.size))
        step = {name: kept.pop(name) for name in inputs_of_a_step(graphs) if name in kept}
        noise = graphs.run(DENOISE, step, kept=kept)["noise"]
        plan_rows = _plan_rows(graphs, plan)
        state = _sampled(graphs, plan, plan_rows, kept, step[STATE])
    return Case(kept=kept, step=step, noise=noise, plan=plan, plan_rows=plan_rows, state=state)


def _plan_rows(graphs: GraphSet, plan: Plan) -> tuple[dict[str, Array], ...]:
    levels = np.array([row.noise_level for row in plan.rows], np.float32)
    asked: dict[str, Array] = {"noise_level": levels[:, None]}
    asked["timestep"] = np.array([row.timestep for row in plan.rows], np.float32)
    if "tabulate" in graphs:
        ((name, made),) = graphs.run("tabulate", asked).items()
        return tuple({name: row[None]} for row in made)
    key = "timestep" if family_named(graphs.bundle.manifest.family).sampling.integer_timesteps else "noise_level"
    return tuple({key: value[None]} for value in asked[key])


def measured(bundle: Bundle, case: Case, choice: EngineChoice, batch: int, settings: Settings) -> Row:
    """The row of one engine, precision and batch; what goes wrong in an engine is its failure."""
    row = Row(engine=choice.backend, precision=choice.precision, batch=batch)
    try:
        with GraphSet(bundle, choice) as graphs, graphs.lease() as lease:
            return replace(row, **_figures(graphs, lease, case, batch, settings))
    except EngineError as error:
        return replace(row, failure=str(error))


def _figures(graphs: GraphSet, lease: Lease, case: Case, batch: int, settings: Settings) -> dict[str, Any]:
    axes = _batch_axes(graphs.bundle)
    kept, step = repeated(case.kept, axes, batch), repeated(case.step, axes, batch)
    step |= graphs.rows_in_precision([{}], [trial_noise_level(graphs.bundle)])[0]
    answer = graphs.run(DENOISE, step, kept=kept, fixed=True, lease=lease)["noise"]
    graphs.run(
        DENOISE, step, kept=kept, fixed=True, lease=lease
    )  # the second run of a shape may be the one that captures it
    step_ms, device_ms = _step_times(graphs, lease, step, kept, settings.rounds)
    rows = graphs.rows_in_precision(list(case.plan_rows), [row.noise_level for row in case.plan.rows])
    keep = Keep(condition=True, size=True, lease=lease)
    seconds, states = [], []
    for _ in range(2):
        begin = time.perf_counter()
        states.append(_sampled(graphs, case.plan, rows, kept, step[STATE], keep))
        seconds.append(time.perf_counter() - begin)
    is_picture = not family_named(graphs.bundle.manifest.family).decodes
    return {
        "sqnr_db": sqnr_db(np.repeat(case.noise, batch, axis=0), answer),
        "picture_db": picture_db(case.state, states[0][:1]) if is_picture else None,
        "step_ms": step_ms,
        "device_ms": device_ms,
        "images_per_second": batch / min(seconds),
        "captured": getattr(graphs.engine(DENOISE), "captured", None),
    }


def _sampled(
    graphs: GraphSet,
    plan: Plan,
    rows: Sequence[Mapping[str, Array]],
    kept: Mapping[str, Array],
    state: Array,
    keep: Keep = NOTHING_STAYS,
) -> Array:
    """The state after all steps of the plan, which adds no noise; on the device where the engine can."""
    if graphs.carries_state:
        steps = steps_of_plan(plan, rows, lambda _index, _rows: np.zeros_like(state), state.shape[2], lambda _: None)
        return graphs.followed(state, kept, steps, keep)

    def predict(x: Array, row: PlanRow, step_index: int) -> Array:
        del row
        return graphs.predicted_noise(x, kept, rows[step_index], keep)

    return run_plan(plan, predict, state, lambda _: np.zeros_like(state)).x


def picture_db(expected: Array, found: Array) -> float:
    """PSNR between two pictures in [-1, 1]; 200 for equal ones."""
    difference = np.clip(expected, -1.0, 1.0).astype(np.float64) - np.clip(found, -1.0, 1.0)
    error = float(np.square(difference).mean())
    return 200.0 if error == 0 else min(200.0, float(10 * np.log10(4.0 / error)))


def _step_times(
    graphs: GraphSet, lease: Lease, step: dict[str, Array], kept: dict[str, Array], rounds: int
) -> tuple[float, float | None]:
    """Median milliseconds by the clock and, on a GPU, by its events around the run."""
    watch = _Watch() if graphs.choice.backend in GPU_ENGINES else None
    clock, device = [], []
    for _ in range(rounds):
        if watch is not None:
            watch.start()
        begin = time.perf_counter()
        graphs.run(DENOISE, step, kept=kept, fixed=True, lease=lease)
        clock.append((time.perf_counter() - begin) * 1e3)
        if watch is not None:
            device.append(watch.stop_ms())
    return median(clock), median(device) if device else None


class Stopwatch:
    """Time between two marks in a stream, measured by the device (CUDA events)."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._marks = (ctypes.c_void_p(), ctypes.c_void_p())
        for mark in self._marks:
            cuda._call("cuEventCreate", ctypes.byref(mark), 0)

    def start(self, stream: Stream) -> None:
        """The time from here on counts."""
        self._cuda._call("cuEventRecord", self._marks[0], stream.handle)

    def stop_ms(self, stream: Stream) -> float:
        """Milliseconds since `start`; waits for the stream."""
        self._cuda._call("cuEventRecord", self._marks[1], stream.handle)
        self._cuda._call("cuEventSynchronize", self._marks[1])
        elapsed = ctypes.c_float()
        self._cuda._call("cuEventElapsedTime", ctypes.byref(elapsed), *self._marks)
        return elapsed.value


class _Watch:
    """Events on a stream of their own: the run between them is waited for, so they enclose it."""

    def __init__(self) -> None:
        self._cuda = Cuda()
        self._stream = Stream(self._cuda)
        self._watch = Stopwatch(self._cuda)

    def start(self) -> None:
        self._watch.start(self._stream)

    def stop_ms(self) -> float:
        return self._watch.stop_ms(self._stream)


def _batch_axes(bundle: Bundle) -> dict[str, int]:
    """Input of the denoiser -> its axis of that name, where it has one. The int8 forms' further inputs have none."""
    inputs = bundle.manifest.graphs[DENOISE]["inputs"]
    return {spec["name"]: spec["shape"].index("batch") for spec in inputs if "batch" in spec["shape"]}


def repeated(feeds: Mapping[str, Array], batch_axes: Mapping[str, int], batch: int) -> dict[str, Array]:
    """The same picture `batch` times."""
    return {
        name: np.repeat(value, batch, axis=batch_axes[name]) if name in batch_axes else value
        for name, value in feeds.items()
    }
