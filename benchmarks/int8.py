"""What int8 costs in pictures, and what each part of it buys: `python -m benchmarks.int8 BUNDLE --json result.json`.

A copy of the bundle is quantized as `idm-deploy quantize` does it. Beside it stand int8 without any of its ideas (from
the least to the largest value, nearest rounding, one range; of everything, of all but the first and last layers, and of
the same layers only) and int8 weights with float activations. All run on held-out pictures from the same noise as
float32 does, with the bundle's default preset and without its aids, plain DDIM from pure noise. PSNR between int8 and
float pictures is the fidelity.

`--ranges` compares several timestep ranges with one under the same clipping instead: for two equations at several
numbers of steps, and in settings where ranges of their own should pay. Differences are paired, picture by picture.

Graphs made for TensorRT run on ONNX Runtime here, with their own codes and float arithmetic between them. Everything is
made in `--scratch`: a second run with the same folder records nothing again, and goes on after the rows in `--json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from benchmarks.int8_tables import table_of_ranges, table_of_ways
from benchmarks.int8_ways import NaiveLayers, Way, Workbench, calibration_of, workbench
from calibration.choose.clipping import Method, MinMax, Mse
from calibration.choose.quantizer import Form, Symmetric
from calibration.targets.table import target_named
from deploy.bundle import Bundle
from deploy.errors import BundleError, DeployError
from deploy.int8.pipeline import Calibrated, quantize_bundle
from deploy.int8.settings import TARGET_NAMES, Places, QuantizeSettings
from deploy.int8.trying.comparison import PLAIN, Fidelity
from deploy.measure.evaluation.originals import photographs_from_originals, read_originals
from deploy.measure.metrics import paired_difference
from deploy.packaged.places import EVALUATION_IMAGES, IDM_BUNDLE
from deploy.sampling.choices import Choices
from engines.errors import EngineError
from engines.new_files import new_file

SCALE = 4.0
SEVERAL = 4
"""Ranges beside one where clipping is by error: beyond them the demo model's inputs gain next to nothing."""

Record = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Several ranges against one, all else equal. form: None is what the target makes the most of."""

    name: str
    choices: Choices
    method: Method
    ranges: int = 8
    form: Form | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row to measure: `way` makes its bundle, `key` finds it again among rows that were measured before."""

    key: Mapping[str, str]
    way: Callable[[], Way]
    choices: Choices


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the table goes to stdout, progress to stderr."""
    asked = _parser().parse_args(arguments)
    try:
        report = measured(asked, lambda line: print(f"int8: {line}", file=sys.stderr, flush=True))
    except (DeployError, EngineError) as error:
        print(f"int8: {error}", file=sys.stderr)
        return 1
    print(table_of_ranges(report) if asked.ranges else table_of_ways(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=IDM_BUNDLE, help="a float bundle; the packaged one")
    parser.add_argument("--ranges", action="store_true", help="several timestep ranges against one")
    parser.add_argument("--json", type=Path, help="where the figures go, written after every row")
    parser.add_argument(
        "--originals",
        type=Path,
        default=EVALUATION_IMAGES,
        help="a folder; else the packaged 24 crops of twelve held-out photographs",
    )
    parser.add_argument("--pictures", type=int, default=24, help="so many of the originals, spread over the folder")
    parser.add_argument("--calib", type=Path, help="a folder to calibrate on; the packaged set")
    parser.add_argument("--calibration-pictures", type=int, help="the first so many of it; all")
    parser.add_argument("--targets", default=",".join(TARGET_NAMES))
    parser.add_argument("--steps", default="5,10,20,50", help="with --ranges")
    parser.add_argument("--equations", default="ddim,dpmpp-2m", help="with --ranges")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scratch", type=Path, help="a folder to go on with later; else a temporary one")
    return parser


def measured(asked: argparse.Namespace, say: Progress) -> Record:
    """Every row, those of an earlier run with the same settings taken from `--json`."""
    targets = tuple(asked.targets.split(","))
    settings = QuantizeSettings(targets=targets, pictures=asked.calibration_pictures)
    spread = read_originals(asked.originals, SCALE)
    originals = spread[:: max(1, len(spread) // asked.pictures)][: asked.pictures]
    bundle = Bundle.open(asked.bundle)
    report: Record = {
        "bundle": bundle.path.name,
        "checkpoint_sha256": bundle.manifest.source.sha256,
        "preset": bundle.manifest.default_preset,
        "mode": "ranges" if asked.ranges else "ways",
        "pictures": [one.name for one in originals],
        "photographs": list(photographs_from_originals(originals)),
        "settings": json.loads(json.dumps(settings.as_dict())),
        "rows": [],
    }
    with _scratch(asked.scratch) as place:
        folder = Path(place)
        places = Places(calibration=asked.calib, cache=folder / "cache", threads=asked.threads)
        calibrated = _quantized(bundle, settings, places, folder, say)
        report["calibration"] = calibration_of(calibrated)
        rows = _earlier_rows(asked.json, report)
        with workbench(calibrated, originals, folder, asked.threads) as bench:
            trials = _range_trials(bench, asked) if asked.ranges else _way_trials(bench)
            for trial in trials:
                known = next((row for row in rows if all(row[key] == value for key, value in trial.key.items())), None)
                report["rows"].append(known or _row(bench, trial, report["photographs"]))
                say(_words(report["rows"][-1]))
                if asked.json:
                    with new_file(asked.json) as file:
                        file.write(f"{json.dumps(report, indent=1, sort_keys=True)}\n".encode())
    return report


def _quantized(bundle: Bundle, settings: QuantizeSettings, places: Places, folder: Path, say: Progress) -> Calibrated:
    if bundle.manifest.scale_range.trained is None:
        raise BundleError(f"{bundle.path} generates pictures: there are no originals to measure it on.")
    place = folder / bundle.path.name
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(bundle.path, place)
    stages: list[str] = []

    def tell(doing: str, fraction: float) -> None:
        stage = doing.partition(",")[0]
        if stage not in stages:
            stages.append(stage)
            say(f"quantizing, {doing}, {fraction:.0%}")

    return quantize_bundle(Bundle.open(place), settings, places, force=True, say=say, progress=tell)


def _way_trials(bench: Workbench) -> Iterator[Trial]:
    samplings = {"plain": PLAIN, "preset": Choices()}
    for sampling, choices in samplings.items():
        key = {"way": "int8 weights only", "target": "-", "sampling": sampling}
        yield Trial(key=key, way=bench.weights_only, choices=choices)
    for target in bench.calibrated.recipes:
        ways: dict[str, Callable[[], Way]] = {
            **{f"naive, {layers}": partial(bench.naive, target, layers) for layers in get_args(NaiveLayers)},
            "default": partial(bench.as_quantized, target),
        }
        for name, way in ways.items():
            for sampling, choices in samplings.items():
                yield Trial(key={"way": name, "target": target, "sampling": sampling}, way=way, choices=choices)


def configurations(steps: Sequence[int], equations: Sequence[str]) -> list[Configuration]:
    """Clipping by error for every equation and number of steps; then where one scale serves all timesteps badly."""
    made = [
        Configuration(
            name=f"{equation}, {count} steps",
            choices=replace(PLAIN, equation=equation, steps=count, eta=0.0 if equation == "ddim" else None),
            method=Mse(),
            ranges=SEVERAL,
        )
        for equation in equations
        for count in steps
    ]
    ancestral = replace(PLAIN, equation="ddpm", eta=None)
    return [
        *made,
        Configuration(name="ddpm, 20 steps", choices=ancestral, method=Mse(), ranges=SEVERAL),
        Configuration(name="min-max, ddim, 20 steps", choices=PLAIN, method=MinMax()),
        Configuration(name="symmetric, ddim, 20 steps", choices=PLAIN, method=Mse(), form=Symmetric()),
        Configuration(name="symmetric min-max, ddim, 20 steps", choices=PLAIN, method=MinMax(), form=Symmetric()),
    ]


def _range_trials(bench: Workbench, asked: argparse.Namespace) -> Iterator[Trial]:
    steps = [int(count) for count in asked.steps.split(",")]
    for target in bench.calibrated.recipes:
        for one in configurations(steps, asked.equations.split(",")):
            if one.form is not None and target != "tensorrt":
                continue  # the others' codes are unsigned
            form = one.form or target_named(target).codes
            for count in (1, one.ranges):
                way = partial(bench.with_scales, one.name, target, form, one.method, count)
                key = {
                    "way": one.name,
                    "target": target,
                    "ranges_asked": str(count),
                }
                yield Trial(key=key, way=way, choices=one.choices)


def _row(bench: Workbench, trial: Trial, photographs: Sequence[str]) -> Record:
    way = trial.way()
    found = bench.measured(way, trial.choices)
    return {
        **trial.key,
        "ranges": way.ranges,
        "share_of_multiplications_in_float": way.share_in_float,
        "fidelity": [min(value, 200.0) for value in found.decibels],  # equal pictures are infinitely alike, JSON is not
        "mean": min(found.mean, 200.0),
        "worst": min(found.worst, 200.0),
        **_changes(found, photographs),
    }


def _changes(found: Fidelity, photographs: Sequence[str]) -> Record:
    psnr = paired_difference(found.psnr_int8, found.psnr_float, photographs)
    return {
        "psnr_change": psnr.mean,
        "psnr_change_interval": psnr.half_width,
        "ssim_change": paired_difference(found.ssim_int8, found.ssim_float).mean,
        "ssimulacra2_change": paired_difference(found.look_int8, found.look_float).mean,
    }


def _earlier_rows(path: Path | None, report: Record) -> list[Record]:
    if path is None or not path.exists():
        return []
    try:
        earlier = json.loads(path.read_text())
    except ValueError:
        return []
    same = isinstance(earlier, dict) and all(earlier.get(key) == report[key] for key in report if key != "rows")
    return list(earlier["rows"]) if same else []


def _scratch(folder: Path | None) -> AbstractContextManager[str | Path]:
    if folder is None:
        return TemporaryDirectory(prefix="int8-")
    folder.mkdir(parents=True, exist_ok=True)
    return nullcontext(folder)


def _words(row: Record) -> str:
    told = ", ".join(str(row[key]) for key in ("target", "way", "sampling") if key in row)
    return f"{told}, {row['ranges']} ranges: {row['mean']:.2f} dB, worst {row['worst']:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
