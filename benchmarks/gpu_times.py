"""What benchmarks.gpu measures of one engine, precision and batch: parity, a step, whole pictures."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, TrialStep, sqnr_db, trial_step
from deploy.families.contract import NOTHING_STAYS, Keep
from deploy.families.table import family_named
from deploy.images.sizes import Size
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from deploy.sampling.step import steps_on_device
from engines.errors import EngineError
from engines.forms import Lease
from engines.machine.cuda import Cuda, Stream

Array = NDArray[Any]

GPU_ENGINES = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
STATE = "x"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; size is the output's."""

    size: Size = Size(128, 128)
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

    step: one step, noise: its answer. plan: its rows are fed. state: the picture after all of them.
    """

    step: TrialStep
    noise: Array
    plan: Plan
    state: Array


def prepare(bundle: Bundle, settings: Settings) -> Case:
    """The reference, by ONNX Runtime in float32 on the CPU."""
    manifest = bundle.manifest
    schedule = NoiseSchedule.from_record(manifest.schedule)
    plan = make_plan(schedule, PlanSettings(steps=settings.steps), rules=family_named(manifest.family).sampling)
    with GraphSet(bundle, EngineChoice()) as graphs:
        step = trial_step(graphs, TrialSettings(size=settings.size))
        noise = step.predicted_noise(graphs)
        plan = replace(plan, rows=family_named(manifest.family).model(graphs).rows(plan.rows))
        state = _sampled(graphs, plan, step)
    return Case(step=step, noise=noise, plan=plan, state=state)


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
    fed = repeated(case.step.feeds, axes, batch)
    condition = {name: fed[name] for name in case.step.condition}
    step = TrialStep(x=fed[STATE], condition=condition, row=graphs.row(case.step.row))
    keep = Keep(condition=True, size=True, lease=lease)
    answer = step.predicted_noise(graphs, keep)
    step.predicted_noise(graphs, keep)  # the second run of a shape may be the one that captures it
    step_ms, device_ms = _step_times(graphs, step, keep, settings.rounds)
    plan = replace(case.plan, rows=tuple(graphs.row(row) for row in case.plan.rows))
    seconds, states = [], []
    for _ in range(2):
        begin = time.perf_counter()
        states.append(_sampled(graphs, plan, step, keep))
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


def _sampled(graphs: GraphSet, plan: Plan, step: TrialStep, keep: Keep = NOTHING_STAYS) -> Array:
    """The state after all steps of the plan, which adds no noise; on the device where the engine can."""
    if graphs.carries_state:
        steps = steps_on_device(plan, lambda _: np.zeros_like(step.x), lambda _: None)
        return graphs.followed(step.x, step.condition, steps, keep)

    def predict(x: Array, row: PlanRow, _step: int) -> Array:
        return graphs.predicted_noise(x, step.condition, row, keep)

    return run_plan(plan, predict, step.x, lambda _: np.zeros_like(step.x))


def picture_db(expected: Array, found: Array) -> float:
    """PSNR between two pictures in [-1, 1]; 200 for equal ones."""
    difference = np.clip(expected, -1.0, 1.0).astype(np.float64) - np.clip(found, -1.0, 1.0)
    error = float(np.square(difference).mean())
    return 200.0 if error == 0 else min(200.0, float(10 * np.log10(4.0 / error)))


def _step_times(graphs: GraphSet, step: TrialStep, keep: Keep, rounds: int) -> tuple[float, float | None]:
    """Median milliseconds by the clock and, on a GPU, by its events around the run."""
    watch = _Watch() if graphs.choice.backend in GPU_ENGINES else None
    clock, device = [], []
    for _ in range(rounds):
        if watch is not None:
            watch.start()
        begin = time.perf_counter()
        step.predicted_noise(graphs, keep)
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
    inputs = bundle.manifest.graphs[DENOISE].inputs
    return {tensor.name: tensor.shape.index("batch") for tensor in inputs if "batch" in tensor.shape}


def repeated(feeds: Mapping[str, Array], batch_axes: Mapping[str, int], batch: int) -> dict[str, Array]:
    """The same picture `batch` times."""
    return {
        name: np.repeat(value, batch, axis=batch_axes[name]) if name in batch_axes else value
        for name, value in feeds.items()
    }
