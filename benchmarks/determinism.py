"""What gives the same bits, and what the same picture to how many dB: `python -m benchmarks.determinism`.

Three packaged pictures of 64x64 are enlarged in ways that must not matter (again in another process, on other numbers
of threads, one by one, by several callers at once) and in ways that may (tiles, precisions, engines, older
instructions). Each way is a process of its own, beside one that is called plain; pixels are compared as the floats that
the networks made, and as the 8 bits that a file holds. Older instructions stand for other machines as far as libraries
can be told: ONNX Runtime takes no such word, and a process that its own engine brings down is told as that.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle import Bundle
from deploy.images.files import read_image
from deploy.measure.metrics import psnr
from deploy.packaged.places import IDM_BUNDLE, packaged_pictures
from deploy.picture.upscaler import Upscaler
from engines.new_files import write_text

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to enlarge the pictures."""

    name: str
    engine: str
    precision: str = "fp32"
    threads: int = 2
    one_by_one: bool = False
    callers: int = 1
    tile: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    beside: str = "plain"
    """What it is compared with: `plain`, or the same of the other engine."""


def ways_of(engine: str, other: str | None, precisions: Sequence[str]) -> list[Way]:
    """The plain way of an engine, and all that are compared with it."""
    ways = [
        Way(name="plain", engine=engine),
        Way(name="again, in another process", engine=engine),
        Way(name="1 thread", engine=engine, threads=1),
        Way(name="one by one", engine=engine, one_by_one=True),
        Way(name="3 callers at once", engine=engine, one_by_one=True, callers=3),
        Way(name="tiles of 64", engine=engine, tile=64),
        Way(name="OpenBLAS' AVX2", engine=engine, environment={"OPENBLAS_CORETYPE": "Haswell"}),
    ]
    if engine.startswith("openvino"):
        ways.append(Way(name="oneDNN's AVX2", engine=engine, environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}))
        ways.append(
            Way(name="oneDNN without bfloat16", engine=engine, environment={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"})
        )
    ways += [Way(name=precision, engine=engine, precision=precision) for precision in precisions]
    if other is not None:
        ways.append(Way(name=f"beside {other}", engine=engine, beside=other))
    return ways


def enlarged(bundle: Path, way: Way) -> list[Pixels]:
    """The packaged pictures at twice their size, as floats from 0 to 1."""
    pictures = [read_image(path).pixels.astype(np.float32) / 255 for path in packaged_pictures()]
    with Upscaler(Bundle.open(bundle), way.engine, way.precision, threads=way.threads) as upscaler:

        def make(given: Any) -> Any:
            return upscaler.upscale(given, scale=2.0, tile=way.tile)

        if not way.one_by_one:
            return list(make(pictures))
        with ThreadPoolExecutor(way.callers) as callers:
            return list(callers.map(make, pictures))


def compared(found: Sequence[Pixels], plain: Sequence[Pixels]) -> dict[str, Any]:
    """How far the pictures of two ways are apart: whether bits and bytes are equal, in dB and in levels of 255."""
    bytes_of = [[np.round(np.clip(picture, 0, 1) * 255) for picture in pictures] for pictures in (found, plain)]
    most = max(float(np.abs(a - b).max()) for a, b in zip(*bytes_of, strict=True))
    return {
        "bits_equal": all(np.array_equal(a, b) for a, b in zip(found, plain, strict=True)),
        "bytes_equal": most == 0,
        "db": min(float(psnr(a * 255.0, b * 255.0)) for a, b in zip(found, plain, strict=True)),
        "levels": most,
    }


def run_alone(bundle: Path, way: Way, folder: Path) -> list[Pixels] | str:
    """What a process of its own makes of a way, or how it ended."""
    target = folder / "made.npz"
    target.unlink(missing_ok=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.determinism",
            "--bundle",
            str(bundle),
            "--way",
            json.dumps(asdict(way)),
            str(target),
        ],
        env={**os.environ, **way.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not target.exists():
        return f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['no word'])[-1][:120]}"
    with np.load(target) as arrays:
        return [arrays[name] for name in sorted(arrays.files)]


def measure(bundle: Path, engines: Sequence[str], precisions: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each way of each engine."""
    plain: dict[str, list[Pixels]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, engine in enumerate(engines):
            other = engines[0] if number else None
            for way in ways_of(engine, other, precisions):
                made = plain.get(engine) if way.beside != "plain" else run_alone(bundle, way, Path(folder))
                row: dict[str, Any] = {"engine": engine, "way": way.name}
                if isinstance(made, str) or made is None:
                    row["failed"] = made
                elif way.name == "plain":
                    plain[engine] = made
                    continue
                else:
                    row |= compared(made, plain[engine if way.beside == "plain" else way.beside])
                rows.append(row)
                sys.stdout.write(f"{line_of(row)}\n")
                sys.stdout.flush()
    return rows


def line_of(row: Mapping[str, Any]) -> str:
    """A row of the table in Markdown."""
    if "failed" in row:
        return f"| {row['engine']} | {row['way']} | {row['failed']} | | |"
    same = "bits" if row["bits_equal"] else "bytes of 8 bits" if row["bytes_equal"] else "no"
    decibels = "" if row["bits_equal"] else f"{row['db']:.1f}"
    return f"| {row['engine']} | {row['way']} | {same} | {decibels} | {row['levels']:.0f} |"


def main() -> int:
    """The table, or with --way the pictures of one of its rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.determinism", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=IDM_BUNDLE)
    parser.add_argument("--engine", action="append", help="repeatable; if left out, ONNX Runtime and OpenVINO")
    parser.add_argument("--precision", action="append", help="beside fp32; repeatable; if left out, none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="?", type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.way:
        pictures = enlarged(settings.bundle, Way(**json.loads(settings.way)))
        np.savez(settings.target, **{f"{number:03}": picture for number, picture in enumerate(pictures)})
        return 0
    sys.stdout.write("| engine | beside plain | equal | dB | most levels apart |\n| --- | --- | --- | --- | --- |\n")
    rows = measure(settings.bundle, settings.engine or ["onnxruntime-cpu", "openvino-cpu"], settings.precision or [])
    if settings.json:
        write_text(settings.json, json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
