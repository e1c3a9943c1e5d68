"""Steps and pictures per second of a bundle on an NVIDIA GPU: `python -m benchmarks.gpu BUNDLE --json result.json`.

For every engine and precision that can run here and every batch: how far its step is from float32 on the CPU, the time
of a step (by the clock, from numpy to numpy, and by the device's own events), and the time of whole pictures: the
loop of `--steps` steps with its update, conditions held on the device. Encoding is done once before and not counted.

A machine without network installs from a folder of wheels first: `--wheels FOLDER`. With `--engines onnxruntime-cpu`
everything but the device's events can be tried without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.doctor import find_cpu
from deploy.engine_plans import PlanOptions, build_plans, planned_builds
from deploy.engine_profiles import EngineSizes
from deploy.engine_trials import TrialSettings, sqnr_db, step_feeds
from deploy.errors import DeployError
from deploy.runtime.graphs import FORM_OF_BACKEND, EngineChoice, GraphSet
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from engines.backends import BACKENDS, open_engine
from engines.cache import Cache
from engines.contract import ANONYMOUS, Engine, TensorSpec
from engines.cuda import Cuda, Device, find_device
from engines.errors import EngineError
from engines.tensorrt_names import TENSORRT, TENSORRT_RTX

Array = NDArray[Any]

GPU_ENGINES = ("onnxruntime-cuda", "tensorrt", "tensorrt-rtx")
STATE = "x"
"""The denoiser's input that a step changes. It and what comes with the row of each step are given, the rest is held."""


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
    """One engine, precision and batch. Times are medians; failure says why there are none."""

    engine: str
    precision: str
    batch: int
    sqnr_db: float | None = None
    step_ms: float | None = None
    device_ms: float | None = None
    images_per_second: float | None = None
    captured: bool | None = None
    failure: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the table goes to stdout, progress to stderr."""
    asked = _parser().parse_args(arguments)
    if asked.wheels is not None:
        install(asked.wheels)
    bundle = Bundle.open(asked.bundle)
    width, height = (int(side) for side in asked.size.split("x"))
    settings = Settings(
        size=(height, width),
        batches=tuple(int(batch) for batch in asked.batches.split(",")),
        rounds=asked.rounds,
        steps=asked.steps,
        cache_dir=asked.cache_dir,
    )
    try:
        report = measure(bundle, settings, asked.engines.split(","))
    except (DeployError, EngineError) as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 1
    if asked.json is not None:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    return 1 if any(row["failure"] for row in report["rows"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engines", default=",".join(GPU_ENGINES), help="names, separated by commas")
    parser.add_argument("--size", default="128x128", help="output, WIDTHxHEIGHT")
    parser.add_argument("--batches", default="1,2,4,8,16,32,64")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps per batch")
    parser.add_argument("--steps", type=int, default=20, help="steps of a picture")
    parser.add_argument("--cache-dir", type=Path, help="the engine cache; the user's if not given")
    parser.add_argument("--wheels", type=Path, help="install onnxruntime-gpu with CUDA from this folder first")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser


def install(folder: Path) -> None:
    """onnxruntime-gpu with its CUDA libraries takes the place of onnxruntime, from wheels in `folder` alone."""
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "uninstall", "--yes", "onnxruntime", "onnxruntime-gpu"], check=True)
    wanted = "onnxruntime-gpu[cuda,cudnn]"
    subprocess.run([*pip, "install", "--no-index", "--find-links", str(folder), wanted], check=True)


def measure(bundle: Bundle, settings: Settings, engines: Sequence[str]) -> dict[str, Any]:
    """Everything measured, in JSON's types; EngineError if no engine of those can run here."""
    unknown = [name for name in engines if name not in BACKENDS]
    if unknown:
        raise EngineError(f"There is no engine called {unknown[0]!r}. There are {', '.join(BACKENDS)}.")
    probes = [BACKENDS[name].probe() for name in engines]
    usable = [probe for probe in probes if probe.available]
    if not usable:
        told = "; ".join(f"{probe.name}: {probe.reason} ({probe.install})" for probe in probes)
        raise EngineError(f"Nothing to measure here: {told}.")
    case = prepare(bundle, settings)
    rows = []
    for probe in usable:
        for precision in BACKENDS[probe.name].PRECISIONS:
            _build(bundle, probe.name, precision, settings)
            for batch in settings.batches:
                row = _measured(bundle, case, EngineChoice(backend=probe.name, precision=precision), batch, settings)
                print(f"gpu: {_words(row)}", file=sys.stderr, flush=True)
                rows.append(asdict(row))
    device = find_device()
    return {
        "bundle": bundle.path.name,
        "size": list(settings.size),
        "steps": settings.steps,
        "cpu": find_cpu().model,
        "gpu": asdict(device) if isinstance(device, Device) else device,
        "versions": {probe.name: probe.version for probe in usable},
        "not_here": {probe.name: probe.reason for probe in probes if not probe.available},
        "rows": rows,
    }


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture's step as the CPU computes it: feeds, answer, and the plan with what each of its steps feeds."""

    feeds: dict[str, Array]
    noise: Array
    plan: Plan
    plan_feeds: tuple[dict[str, Array], ...]


def prepare(bundle: Bundle, settings: Settings) -> Case:
    """The reference, by ONNX Runtime in float32 on the CPU."""
    manifest = bundle.manifest
    plan = make_plan(
        NoiseSchedule.from_dict(manifest.schedule), PlanSettings(steps=settings.steps), family=manifest.family
    )
    with GraphSet(bundle, EngineChoice()) as graphs:
        feeds = step_feeds(graphs, TrialSettings(size=settings.size))
        noise = graphs.run("denoise", feeds)["noise"]
        levels = np.array([row.noise_level for row in plan.rows], np.float32)
        asked = {"noise_level": levels[:, None], "timestep": np.array([r.timestep for r in plan.rows], np.float32)}
        plan_feeds = []
        if "tabulate" in graphs:
            ((name, made),) = graphs.run("tabulate", asked).items()
            plan_feeds = [{name: row[None]} for row in made]
        else:
            key = "noise_level" if manifest.family == "idm" else "timestep"
            plan_feeds = [{key: value[None]} for value in asked[key]]
    wanted = {spec["name"] for spec in manifest.graphs["denoise"]["inputs"]}
    kept = {name: value for name, value in feeds.items() if name in wanted}
    return Case(feeds=kept, noise=noise, plan=plan, plan_feeds=tuple(plan_feeds))


def _build(bundle: Bundle, engine: str, precision: str, settings: Settings) -> None:
    """TensorRT's plans are in the cache: one for all batches of this size."""
    packages = {package.backend: package for package in (TENSORRT, TENSORRT_RTX)}
    if engine not in packages:
        return
    sides = (settings.size,) * 3
    batch = (min(settings.batches), settings.batches[len(settings.batches) // 2], max(settings.batches))
    options = PlanOptions(sizes=EngineSizes(sizes=sides, scales=(8.0, 8.0, 8.0), batch=batch))
    planned = [p for p in planned_builds(bundle, packages[engine], precision, options) if "denoise" in p.source.label]
    build_plans(planned, Cache(settings.cache_dir), options, _silent)


def _silent(_doing: str, _fraction: float) -> None:
    """Builds of a benchmark are not watched."""


def _measured(bundle: Bundle, case: Case, choice: EngineChoice, batch: int, settings: Settings) -> Row:
    try:
        return _times(bundle, case, choice, batch, settings)
    except EngineError as error:
        return Row(engine=choice.backend, precision=choice.precision, batch=batch, failure=str(error))


def _times(bundle: Bundle, case: Case, choice: EngineChoice, batch: int, settings: Settings) -> Row:
    graph = bundle.graph("denoise", FORM_OF_BACKEND[choice.backend])
    with ExitStack() as stack:
        specs = _specs(bundle)
        feeds = repeated(case.feeds, specs, batch)
        sizes = axis_sizes(specs, feeds)
        engine = stack.enter_context(
            open_engine(
                graph,
                backend=choice.backend,
                precision=choice.precision,
                sizes=sizes,
                cache_dir=settings.cache_dir,
            )
        )
        engine.hold({name: value for name, value in feeds.items() if name not in case.plan_feeds[0] and name != STATE})
        changing = {name: feeds[name] for name in (STATE, *case.plan_feeds[0])}
        answer = engine.run(changing)["noise"]
        engine.run(changing)  # the second run of a shape may be the one that captures it
        step_ms, device_ms = _step_times(engine, changing, settings.rounds)
        seconds = _picture_seconds(engine, case, changing[STATE])
    return Row(
        engine=choice.backend,
        precision=choice.precision,
        batch=batch,
        sqnr_db=sqnr_db(np.repeat(case.noise, batch, axis=0), answer),
        step_ms=step_ms,
        device_ms=device_ms,
        images_per_second=batch / seconds,
        captured=getattr(engine, "captured", None),
    )


def _step_times(engine: Engine, feeds: dict[str, Array], rounds: int) -> tuple[float, float | None]:
    """Median milliseconds by the clock and, on a GPU, by its events around the run."""
    watch = _Watch() if engine.name in GPU_ENGINES else None
    clock, device = [], []
    for _ in range(rounds):
        if watch is not None:
            watch.start()
        begin = time.perf_counter()
        engine.run(feeds)
        clock.append((time.perf_counter() - begin) * 1e3)
        if watch is not None:
            device.append(watch.stop_ms())
    return median(clock), median(device) if device else None


class _Watch:
    """Events on a stream of their own: the run between them is waited for, so they enclose it."""

    def __init__(self) -> None:
        from engines.cuda import Stopwatch, Stream

        self._cuda = Cuda()
        self._stream = Stream(self._cuda)
        self._watch = Stopwatch(self._cuda)

    def start(self) -> None:
        self._watch.start(self._stream)

    def stop_ms(self) -> float:
        return self._watch.stop_ms(self._stream)


def _picture_seconds(engine: Engine, case: Case, state: Array) -> float:
    """Seconds for all steps of the plan on this batch, the sampler's arithmetic included; the better of two."""

    def predict(x: Array, row: PlanRow, step_index: int) -> Array:
        del row
        return engine.run({STATE: x, **case.plan_feeds[step_index]})["noise"]

    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        run_plan(case.plan, predict, state, lambda _: np.zeros_like(state))
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def _specs(bundle: Bundle) -> list[TensorSpec]:
    inputs = bundle.manifest.graphs["denoise"]["inputs"]
    return [TensorSpec(spec["name"], spec["dtype"], tuple(spec["shape"])) for spec in inputs]


def repeated(feeds: dict[str, Array], specs: Sequence[TensorSpec], batch: int) -> dict[str, Array]:
    """The same picture `batch` times: what has an axis of that name is repeated along it."""
    made = {}
    for spec in specs:
        value = feeds[spec.name]
        made[spec.name] = np.repeat(value, batch, axis=spec.shape.index("batch")) if "batch" in spec.shape else value
    return made


def axis_sizes(specs: Sequence[TensorSpec], feeds: dict[str, Array]) -> dict[str, int]:
    """The size of every named axis in these feeds, so that an engine can be opened for them alone."""
    pairs = ((axis, size) for spec in specs for axis, size in zip(spec.shape, feeds[spec.name].shape, strict=True))
    return {axis: size for axis, size in pairs if isinstance(axis, str) and axis != ANONYMOUS}


def table(report: dict[str, Any]) -> str:
    """The rows as a Markdown table under a line that says where they were measured."""
    gpu = report["gpu"]["name"] if isinstance(report["gpu"], dict) else report["gpu"]
    height, width = report["size"]
    title = f"{report['bundle']}, {width}x{height}, {report['steps']} steps, {gpu}"
    lines = [title, "", "| engine | batch | dB | ms per step | by events | images/s | graph |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in report["rows"]:
        name = f"{row['engine']} {row['precision']}"
        if row["failure"]:
            lines.append(f"| {name} | {row['batch']} | {row['failure']} | | | | |")
            continue
        device = "-" if row["device_ms"] is None else f"{row['device_ms']:.2f}"
        graph = {None: "-", True: "yes", False: "no"}[row["captured"]]
        lines.append(
            f"| {name} | {row['batch']} | {row['sqnr_db']:.1f} | {row['step_ms']:.2f} | {device} "
            f"| {row['images_per_second']:.2f} | {graph} |"
        )
    lines += [f"not measured: {name}, {reason}" for name, reason in report["not_here"].items()]
    return "\n".join(lines)


def _words(row: Row) -> str:
    name = f"{row.engine} {row.precision}, batch {row.batch}"
    return f"{name}: {row.failure or f'{row.step_ms:.2f} ms per step, {row.images_per_second:.2f} images/s'}"


if __name__ == "__main__":
    sys.exit(main())
