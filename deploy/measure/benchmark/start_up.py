"""From the start of a process to its first picture, and the memory that it takes: measured in processes of their own.

    python -m deploy.measure.benchmark.start_up BUNDLE ENGINE PRECISION THREADS WIDTHxHEIGHT SINCE [DEVICE [AROUND]]

prints one line of JSON. DEVICE is - for none. SINCE is when the process was started, by the monotonic clock, which is
the same in all processes of a machine.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from deploy.images.sizes import Size

if TYPE_CHECKING:
    from deploy.engine.graphs import EngineChoice

STARTS = 3
"""Processes per engine; the first may find the files cold."""

LONGEST_SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """Medians of some starts; times in seconds since the process began, each including those before it.

    imported: the code is there; opened: the bundle's hashes are compared; ready: all graphs are open; first_picture:
    a picture was made in one step. Memory in bytes: resident when ready and at most until the end; device_bytes is
    what the GPU had less of at the end than before, None where there is none.
    """

    name: str
    imported: float = 0.0
    opened: float = 0.0
    ready: float = 0.0
    first_picture: float = 0.0
    resident_bytes: int = 0
    peak_bytes: int = 0
    device_bytes: int | None = None
    failure: str | None = None


def start_up_of(name: str, starts: Sequence[Mapping[str, Any]]) -> StartUp:
    """The medians of several starts, or the first reason why one failed."""
    failures = [str(start["failure"]) for start in starts if "failure" in start]
    if failures:
        return StartUp(name=name, failure=failures[0])
    middle = {key: median(start[key] for start in starts) for key in ("imported", "opened", "ready", "first_picture")}
    device = [start["device_bytes"] for start in starts if start["device_bytes"] is not None]
    return StartUp(
        name=name,
        **middle,
        resident_bytes=int(median(start["resident_bytes"] for start in starts)),
        peak_bytes=int(median(start["peak_bytes"] for start in starts)),
        device_bytes=int(median(device)) if device else None,
    )


def started(bundle: Path, choice: "EngineChoice", size: Size) -> Mapping[str, Any]:
    """When one new process reached each point, with its memory; or {"failure": why}."""
    arguments = [str(bundle), choice.backend, choice.precision, str(choice.threads), str(size), repr(time.monotonic())]
    arguments += ["-" if choice.device is None else str(choice.device)]
    arguments += [] if choice.around is None else [choice.around]
    command = [sys.executable, "-m", "deploy.measure.benchmark.start_up", *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"failure": f"no picture after {LONGEST_SECONDS:.0f} s"}
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return {"failure": lines[-1] if lines else f"the process ended with {process.returncode}"}
    marks: Mapping[str, Any] = json.loads(process.stdout)
    return marks


def main(arguments: Sequence[str]) -> int:
    """Prints when this process reached each point, with its memory; exit code 1, with the reason, if it is refused."""
    bundle, engine, precision, threads, size, since, *rest = arguments
    device = int(rest[0]) if rest and rest[0] != "-" else None
    around = rest[1] if len(rest) > 1 else None
    width, height = (int(side) for side in size.split("x"))
    from deploy.engine.graphs import EngineChoice
    from deploy.errors import DeployError
    from engines.errors import EngineError

    try:
        choice = EngineChoice(backend=engine, precision=precision, threads=int(threads), device=device, around=around)
        marks = _first_picture(Path(bundle), choice, Size(height, width), float(since))
    except (DeployError, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(marks)}\n")
    return 0


def _first_picture(path: Path, choice: "EngineChoice", size: Size, since: float) -> dict[str, Any]:
    # Not at the top: the parent, which imports this module too, must not be what is measured.
    from contextlib import ExitStack

    from deploy.bundle import Bundle
    from deploy.measure.benchmark.pictures import PictureMaker, lr_size_of, random_pictures
    from deploy.measure.benchmark.settings import BenchSettings
    from deploy.picture.memory import resident_bytes
    from deploy.sampling.choices import Choices

    marks: dict[str, Any] = {"imported": time.monotonic() - since}
    device_before = device_bytes_used()
    bundle = Bundle.open(path)
    marks["opened"] = time.monotonic() - since
    with ExitStack() as stack:
        maker = PictureMaker(bundle, choice, stack)
        maker.upscaler.session.model.open_engines()
        marks |= {"ready": time.monotonic() - since, "resident_bytes": resident_bytes()}
        pictures = random_pictures(lr_size_of(bundle, BenchSettings(size=size)), 1)
        maker.make(pictures, size, Choices(equation="ddim", steps=1, placement="uniform", start=0.0, consistency=0.0))
        marks["first_picture"] = time.monotonic() - since
        after = device_bytes_used()
    both_known = device_before is not None and after is not None
    return marks | {"peak_bytes": peak_bytes(), "device_bytes": after - device_before if both_known else None}  # type: ignore[operator]


def peak_bytes() -> int:
    """The most that was ever resident of this process; 0 on systems that do not say.

    Not getrusage: on Linux, its figure begins with that of the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def device_bytes_used() -> int | None:
    """Memory of the first GPU that is in use by anyone, as nvidia-smi says; None without one."""
    import shutil

    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return int(process.stdout) * 2**20 if process.returncode == 0 and process.stdout.strip().isdigit() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
