"""Builds in a process of their own, with progress and a deadline: what goes wrong in there is a sentence out here."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engines.errors import EngineError, OutOfMemory
from engines.plans.tensorrt_builder import BuildRequest, BuildResult, Progress

WORKER = (sys.executable, "-m", "engines.plans.build_one")
KILLED = -9
"""What Popen says of a process that SIGKILL ended, which is how Linux ends one when memory runs out."""

DEADLINE_S = 3600.0
"""Builds of the full networks took TensorRT-RTX 2 to 21 s without a GPU; with one, TensorRT times its kernels."""


def build(request: BuildRequest, progress: Progress, *, deadline_s: float = DEADLINE_S) -> BuildResult:
    """The plan that `request` asks for, built in its own process, which is killed at the deadline.

    EngineError if it failed, OutOfMemory if it was killed; then there is no plan.
    """
    with tempfile.TemporaryDirectory(prefix="idm-deploy-") as folder:
        request_file = Path(folder) / "request.json"
        request_file.write_text(json.dumps(asdict(request)))
        try:
            answer = _answer_of([*WORKER, str(request_file)], Path(folder), progress, request, deadline_s)
        except BaseException:
            Path(request.plan).unlink(missing_ok=True)
            raise
    return BuildResult(**{**answer, "notes": tuple(answer["notes"])})


def _answer_of(
    command: list[str], folder: Path, progress: Progress, request: BuildRequest, deadline_s: float
) -> dict[str, Any]:
    name = Path(request.graph).name
    with (folder / "stderr").open("w+b") as noise:
        # The worker finds `engines` where this process did, installed or not.
        home = str(Path(__file__).parent.parent.parent)
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=noise, text=True, cwd=home)
        try:
            answer = _listen(worker, progress, name, deadline_s)
            code = worker.wait(timeout=60)
        finally:
            worker.kill()  # does nothing to one that has ended
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
        noise.seek(0)
        output = noise.read().decode(errors="replace").strip()
    if "error" in answer:
        raise EngineError(answer["error"])
    if code or "result" not in answer:
        raise _ended(name, code, output)
    result: dict[str, Any] = answer["result"]
    return result


def _listen(worker: subprocess.Popen[str], progress: Progress, name: str, deadline_s: float) -> dict[str, Any]:
    """The worker's last answer; EngineError at the deadline. The time goes on while the worker is silent."""
    begin = time.monotonic()
    answer: dict[str, Any] = {}
    for line in _lines(worker, begin + deadline_s):
        if line is None:
            raise EngineError(
                f"Building {name}: not done after {time.monotonic() - begin:.0f} s, so it was stopped. "
                "Give more time with --deadline, or fewer or smaller sizes."
            )
        answer = json.loads(line)
        if "progress" in answer:
            progress(*answer["progress"])
    return answer


def _lines(worker: subprocess.Popen[str], until: float) -> Iterator[str | None]:
    """Lines of the worker's stdout; None when `until` has come."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in worker.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            yield None
            return
        if line is None:
            return
        yield line


def _ended(name: str, code: int, output: str) -> EngineError:
    """What to raise for a worker that ended without an answer."""
    if code == KILLED:
        return OutOfMemory(
            f"Building {name}: the build was killed, most often because memory ran out. "
            "Close other programs, or give a smaller --max-workspace, smaller sizes or fewer."
        )
    last = output.splitlines()[-1][:200] if output else "it said nothing"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return EngineError(f"Building {name}: the build ended by itself ({how}): {last}")
