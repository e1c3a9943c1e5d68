"""Steps and pictures per second of a bundle on an NVIDIA GPU: `python -m benchmarks.gpu BUNDLE --json result.json`.

For every engine, precision (int8 where the bundle was quantized for it) and batch: how far its step and its picture by
plain ddim are from float32 on the CPU, the time of a step (by the clock, from numpy to numpy, and by the device's own
events), and the time of whole pictures: the loop of `--steps` steps with its update, conditions held on the device.
Encoding is done once before and not counted.

A machine without network installs from a folder of wheels first: `--wheels FOLDER`. With `--engines onnxruntime-cpu`
everything but the device's events can be tried without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_times import GPU_ENGINES, Row, Settings, measured, prepare
from deploy.bundle import Bundle
from deploy.engine.builds import PlannedBuild, PlanOptions, build_plans, planned_builds
from deploy.engine.graphs import DENOISE, INT8, EngineChoice
from deploy.engine.int8 import has_int8
from deploy.errors import DeployError
from deploy.families.sizes import EngineSizes
from deploy.images.sizes import Size
from engines.backends import BACKENDS
from engines.cache import Cache
from engines.errors import EngineError
from engines.machine.cuda import Device, find_device
from engines.machine.host import find_cpu
from engines.plans.tensorrt_names import TENSORRT, TENSORRT_RTX


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the table goes to stdout, progress to stderr."""
    asked = _parser().parse_args(arguments)
    if asked.wheels is not None:
        install(asked.wheels)
    bundle = Bundle.open(asked.bundle)
    width, height = (int(side) for side in asked.size.split("x"))
    settings = Settings(
        size=Size(height, width),
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
        for precision in precisions(bundle, probe.name):
            build_plans(
                plans_to_build(bundle, probe.name, precision, settings),
                Cache(settings.cache_dir),
                _plan_options(settings),
                _silent,
            )
            choice = EngineChoice(backend=probe.name, precision=precision, cache_dir=settings.cache_dir)
            for batch in settings.batches:
                row = measured(bundle, case, choice, batch, settings)
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


def precisions(bundle: Bundle, engine: str) -> list[str]:
    """Those of the engine, and int8 where the bundle has graphs for it."""
    return [*BACKENDS[engine].precisions, *([INT8] if has_int8(bundle, engine) else [])]


def plans_to_build(bundle: Bundle, engine: str, precision: str, settings: Settings) -> list[PlannedBuild]:
    """TensorRT's plans of the denoiser: one for all batches of this size, in int8 one per range."""
    packages = {package.backend: package for package in (TENSORRT, TENSORRT_RTX)}
    if engine not in packages:
        return []
    planned = planned_builds(bundle, packages[engine], precision, _plan_options(settings))
    return [plan for plan in planned if DENOISE in plan.source.label]


def _plan_options(settings: Settings) -> PlanOptions:
    batch = (min(settings.batches), settings.batches[len(settings.batches) // 2], max(settings.batches))
    return PlanOptions(sizes=EngineSizes(sizes=(settings.size,) * 3, scales=(8.0, 8.0, 8.0), batch=batch))


def _silent(_doing: str, _fraction: float) -> None:
    """Builds of a benchmark are not watched."""


def table(report: dict[str, Any]) -> str:
    """The rows as a Markdown table under a line that says where they were measured."""
    gpu = report["gpu"]["name"] if isinstance(report["gpu"], dict) else report["gpu"]
    height, width = report["size"]
    title = f"{report['bundle']}, {width}x{height}, {report['steps']} steps, {gpu}"
    lines = [title, "", "| engine | batch | step dB | picture dB | ms per step | by events | images/s | graph |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in report["rows"]:
        name = f"{row['engine']} {row['precision']}"
        if row["failure"]:
            lines.append(f"| {name} | {row['batch']} | {row['failure']} | | | | | |")
            continue
        device = "-" if row["device_ms"] is None else f"{row['device_ms']:.2f}"
        picture = "-" if row["picture_db"] is None else f"{row['picture_db']:.1f}"
        graph = {None: "-", True: "yes", False: "no"}[row["captured"]]
        lines.append(
            f"| {name} | {row['batch']} | {row['sqnr_db']:.1f} | {picture} | {row['step_ms']:.2f} | {device} "
            f"| {row['images_per_second']:.2f} | {graph} |"
        )
    lines += [f"not measured: {name}, {reason}" for name, reason in report["not_here"].items()]
    return "\n".join(lines)


def _words(row: Row) -> str:
    name = f"{row.engine} {row.precision}, batch {row.batch}"
    return f"{name}: {row.failure or f'{row.step_ms:.2f} ms per step, {row.images_per_second:.2f} images/s'}"


if __name__ == "__main__":
    sys.exit(main())
