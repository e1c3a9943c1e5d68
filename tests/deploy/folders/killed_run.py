"""Runs on a folder that are killed at random moments: what is there is complete, and the end is that of one run.

python -m tests.deploy.folders.killed_run BUNDLE IN OUT     one run, which says when it begins
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.deploy.folders.pictures import files_in, make_pictures, unfinished

ROOT = Path(__file__).resolve().parents[3]


def begun(bundle: Path, inputs: Path, out: Path, *, waits: bool = False) -> subprocess.Popen[str]:
    """A run that has opened its networks and is about to look for pictures; `waits`: until it is told to go."""
    command = [sys.executable, "-m", "tests.deploy.folders.killed_run", *map(str, (bundle, inputs, out))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "begins\n"
    if not waits:
        go(process)
    return process


def go(process: subprocess.Popen[str]) -> None:
    """The run looks for pictures."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def finished(process: subprocess.Popen[str]) -> list[str]:
    """What came of each picture of a run that was left alone."""
    told, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return told.split()


def check_kills(bundle: Path, place: Path, kills: int, pictures: int) -> None:
    """After each kill every file is a complete result and none is lost; in the end all are there, and nothing else."""
    make_pictures(place / "in", *[f"{number % 3}/{number}.png" for number in range(pictures)])
    process = begun(bundle, place / "in", place / "whole")
    began = time.perf_counter()
    assert finished(process) == ["made"] * pictures
    whole, seconds = files_in(place / "whole"), time.perf_counter() - began
    moments = random.Random(20)
    before: set[str] = set()
    while kills:
        killed = killed_after(moments.uniform(0, seconds / 3), begun(bundle, place / "in", place / "out"))
        there = files_in(place / "out")
        # Nothing but complete results lies under a final name, and none has gone.
        assert there.items() <= whole.items() and before <= there.keys()
        before = set(there)
        kills -= killed
        if not killed:  # it was faster, and all is made: another beginning
            shutil.rmtree(place / "out")
            before = set()
    finished(begun(bundle, place / "in", place / "out"))
    assert files_in(place / "out") == whole and unfinished(place / "out") == []
    assert finished(begun(bundle, place / "in", place / "out")) == ["skipped"] * pictures


def killed_after(seconds: float, process: subprocess.Popen[str]) -> bool:
    """Whether the run was killed; False if it ended before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    return process.wait(30) == -signal.SIGKILL


def main(bundle: str, inputs: str, out: str) -> None:
    from deploy import Bundle, Upscaler, enlarge

    with Upscaler(Bundle.open(bundle), engine="onnxruntime-cpu", precision="fp32", threads=1) as upscaler:
        upscaler.session.model.open_engines()
        print("begins", flush=True)
        sys.stdin.readline()
        for outcome in enlarge(inputs, out, scale=2, steps=4, upscaler=upscaler):
            print(outcome.state, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
