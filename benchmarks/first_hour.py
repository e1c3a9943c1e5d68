"""How long a newcomer waits in the first hour, in seconds on this machine: `python -m benchmarks.first_hour`.

Every row is a command as it is typed, run as a process of its own in a scratch folder: its seconds, and the seconds
that the processors spent on it, which other work on the machine changes less. Sections are named to run only these:

    python -m benchmarks.first_hour quantize --only packaged,tiny --json first-hour.json

`quantize`: `idm-deploy quantize` with default settings on the packaged IDM (packaged), on the smallest IDM of the tests
(tiny) and on the published size with random weights (full), and `idm-deploy demo` (demo).
`start`: `--help`; the first picture, a packaged one of 64x64 enlarged twice by the preset draft (picture); and 300 of
24x24 enlarged so by one command (pictures).
`forecast`: the time that `infer` announces for the packaged sample at four times its size with an empty cache (first)
and with the times of that run (again), beside the time it took.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.forecast import forecast_and_actual
from benchmarks.full_size import main as make_full_size
from deploy.cli.tables import text_from_cells
from deploy.images.files import read_image, write_image
from deploy.packaged.places import IDM_BUNDLE, packaged_pictures
from engines.new_files import new_file

RUN = "from deploy.cli.main import main; main()"
"""What the installed `idm-deploy` does, by the interpreter and the code that this benchmark runs."""


class CommandError(Exception):
    """A measured command ended with an exit code other than 0; its last words are the message."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One command: seconds until it ended, and of processor time in its own code (user) on all cores."""

    section: str
    name: str
    seconds: float
    user_seconds: float
    forecast: float | None = None
    """Seconds that were announced, where that is what is measured."""


def timed(section: str, name: str, arguments: Sequence[str], folder: Path) -> Row:
    """`idm-deploy` with these arguments, run in `folder`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    user_seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    if done.returncode:
        raise CommandError(f"idm-deploy {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-500:]}")
    return Row(section=section, name=name, seconds=round(seconds, 1), user_seconds=round(user_seconds, 1))


def quantized(name: str, configuration: str | None, folder: Path) -> Row:
    """`quantize` on a copy of the packaged bundle, or on random weights of a configuration of the tests."""
    if configuration is None:
        bundle = folder / IDM_BUNDLE.name
        shutil.copytree(IDM_BUNDLE, bundle)
    else:
        bundle = folder / f"{configuration}.bundle"
        if make_full_size([configuration, str(folder)]):
            raise CommandError(f"making {configuration} in {folder} failed; what it said stands above.")
    return timed("quantize", name, ["quantize", bundle.name, "--force", "--cache-dir", "cache"], folder)


def demo(folder: Path) -> Row:
    """`demo`, its downloads done."""
    return timed("quantize", "demo", ["demo", "-o", "demo-output"], folder)


QUANTIZE: Mapping[str, Callable[[Path], Row]] = {
    "packaged": lambda folder: quantized("packaged", None, folder),
    "tiny": lambda folder: quantized("tiny", "idm_tiny", folder),
    "full": lambda folder: quantized("full", "idm_ffhq_16_128", folder),
    "demo": demo,
}

SMALL = ("--scale", "2", "--preset", "draft")
PICTURES = 300


def pictures(folder: Path) -> Row:
    """Small photographs, each a crop of its own of the packaged ones."""
    wide = np.concatenate([read_image(path).pixels for path in packaged_pictures()], axis=1)
    (folder / "in").mkdir()
    for number in range(PICTURES):
        top, left = number % 40, number * 7 % (wide.shape[1] - 24)
        write_image(wide[top : top + 24, left : left + 24], folder / "in" / f"{number:03}.png")
    names = [f"in/{number:03}.png" for number in range(PICTURES)]
    return timed("start", "pictures", ["infer", *names, *SMALL, "-o", "out/"], folder)


START: Mapping[str, Callable[[Path], Row]] = {
    "help": lambda folder: timed("start", "help", ["--help"], folder),
    "picture": lambda folder: timed("start", "picture", ["infer", *SMALL], folder),
    "pictures": pictures,
}


def forecast(name: str, folder: Path, runs: int) -> Row:
    """The last of so many runs that share a cache which is empty at first."""
    for _ in range(runs):
        told = forecast_and_actual(["--scale", "4"], folder / "cache")
    return Row(section="forecast", name=name, seconds=told.actual, user_seconds=0.0, forecast=told.forecast)


FORECAST: Mapping[str, Callable[[Path], Row]] = {
    "first": lambda folder: forecast("first", folder, 1),
    "again": lambda folder: forecast("again", folder, 2),
}

SECTIONS: Mapping[str, Mapping[str, Callable[[Path], Row]]] = {
    "start": START,
    "forecast": FORECAST,
    "quantize": QUANTIZE,
}
"""By section and name of the row, what makes it in a folder of its own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the table goes to stdout, each row to stderr as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=f"of {', '.join(SECTIONS)}; all")
    parser.add_argument("--only", help="these rows of the sections, by name, separated by commas")
    parser.add_argument("--json", type=Path, help="where the figures go, written after every row")
    asked = parser.parse_args(arguments)
    makers = {(section, name): make for section, rows in SECTIONS.items() for name, make in rows.items()}
    chosen = set(asked.only.split(",")) if asked.only else {name for _, name in makers}
    unknown = [*(set(asked.sections) - set(SECTIONS)), *(chosen - {name for _, name in makers})]
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such section or row")
    rows: list[Row] = []
    for (section, name), make in makers.items():
        if name not in chosen or (asked.sections and section not in asked.sections):
            continue
        with TemporaryDirectory(prefix="first-hour-") as scratch:
            try:
                rows.append(make(Path(scratch)))
            except CommandError as failed:
                print(f"first_hour: {failed}", file=sys.stderr)
                return 1
        print(f"first_hour: {section}, {name}: {rows[-1].seconds:.1f} s", file=sys.stderr, flush=True)
        if asked.json:
            with new_file(asked.json) as file:
                file.write(f"{json.dumps([asdict(row) for row in rows], indent=1)}\n".encode())
    head = ["section", "command", "seconds", "user seconds", "announced"]
    print(text_from_cells("The first hour", [head, *(_cells(row) for row in rows)]))
    return 0


def _cells(row: Row) -> list[str]:
    announced = "" if row.forecast is None else f"{row.forecast:.1f} ({row.forecast / row.seconds - 1:+.0%})"
    return [row.section, row.name, f"{row.seconds:.1f}", f"{row.user_seconds:.1f}", announced]


if __name__ == "__main__":
    sys.exit(main())
