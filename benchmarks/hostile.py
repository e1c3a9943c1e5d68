"""Files of strangers, made by the thousand: `python -m benchmarks.hostile --minutes 10` prints what came of them.

Bundles (their bundle.json with values, keys and lists changed), graphs (their nodes, or their bytes), checkpoints and
pictures of every format (their bytes), animations, and configurations in JSON and YAML are read as the tool reads them,
in forked processes with a limit of memory and of seconds, and with an eye on whatever would run a program, open a
connection or unpickle an object. Each must be read, or refused in the tool's own words.

    python -m benchmarks.hostile --minutes 10 --seed 7
    python -m benchmarks.hostile --kind pictures --seed 7 --only 1234      # one input again, with its traceback

Every input follows from the seed, its kind and its number. What was found is written to hostile-findings.json.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.hostile_inputs import KINDS, MEMORY, REFUSALS, Read

HANGS_AFTER = 20
"""Seconds of the processor for one input, or three times as many without it."""
SLICE_S = 0.25
"""Time is counted in slices of this process's own waiting: it stops where both processes are stopped."""
BATCH = 1000
"""Inputs of one process."""
OUTCOMES = ("read", "refused", "uncaught", "hang", "crash", "executed", "too long")
FINE = ("read", "refused")
LONGEST_MESSAGE = 2100
FORBIDDEN = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "pickle.find_class")
"""Audit events of Python that no file may cause."""


def outcome_of(read: Read, path: Path, executed: list[str]) -> tuple[str, str]:
    """What came of one input, and of a finding what was seen."""
    executed.clear()
    outcome, seen = "read", ""
    try:
        read(path)
    except REFUSALS as error:
        outcome = "refused"
        if len(str(error)) > LONGEST_MESSAGE:
            outcome, seen = "too long", str(error)[:300]
    except MemoryError:
        outcome, seen = "uncaught", "MemoryError"
    except Exception:
        outcome, seen = "uncaught", traceback.format_exc()[-1500:]
    return ("executed", executed[0]) if executed else (outcome, seen)


def watch(executed: list[str]) -> None:
    """From now on, events of FORBIDDEN are noted."""
    sys.addaudithook(lambda event, _: executed.append(event) if event in FORBIDDEN else None)


def work(kind: str, seed: int, first: int, scratch: Path, tell: Callable[[list[Any]], None]) -> None:
    """In a process of its own: BATCH inputs, each told of before and after."""
    faulthandler.disable()  # a crash is counted, not shown
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY * 4, MEMORY * 4))
    make, read = KINDS[kind](scratch)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + MEMORY,) * 2)
    executed: list[str] = []
    watch(executed)
    for number in range(first, first + BATCH):
        tell([number])
        folder = scratch / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        tell([number, *outcome_of(read, make(random.Random(f"{seed}/{kind}/{number}"), folder), executed)])


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


def run_batch(kind: str, seed: int, first: int, deadline: float) -> list[list[Any]]:
    """[number, outcome, what was seen] of each input of a batch that was tried before the deadline."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as scratch:
        with warnings.catch_warnings():  # of Python 3.12, should the caller have threads: the child uses none of theirs
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                os.close(reading)
                silent = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silent, 1)
                os.dup2(silent, 2)
                work(
                    kind, seed, first, Path(scratch), lambda line: os.write(writing, (json.dumps(line) + "\n").encode())
                )
            except BaseException:
                _write_line(writing, [first, "uncaught", traceback.format_exc()[-1500:]])
            os._exit(0)
        os.close(writing)
        return _answers(child, reading, deadline)


def _write_line(place: int, line: list[Any]) -> None:
    os.write(place, (json.dumps(line) + "\n").encode())


def _processor_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _answers(child: int, reading: int, deadline: float) -> list[list[Any]]:
    done: list[list[Any]] = []
    current, left = None, b""
    verdict, slices, used = "", 0, 0.0
    with os.fdopen(reading, "rb", buffering=0) as answers:
        while not verdict:
            ready, _, _ = select.select([answers], [], [], SLICE_S)
            if not ready:
                slices += 1
                most = HANGS_AFTER + (60 if current is None else 0)
                is_hung = _processor_seconds(child) - used > most or slices * SLICE_S > 3 * most
                verdict = "hang" if is_hung else ""
                continue
            slices, used = 0, _processor_seconds(child)
            piece = answers.read(1 << 16)
            if not piece:
                break
            *lines, left = (left + piece).split(b"\n")
            for line in map(json.loads, lines):
                current = line[0] if len(line) == 1 else None
                done += [line] if len(line) > 1 else []
            if time.monotonic() > deadline and current is None:
                break
    os.kill(child, signal.SIGKILL) if verdict or time.monotonic() > deadline else None
    _, status = os.waitpid(child, 0)
    if current is not None:
        ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if verdict or ended != signal.SIGKILL:
            done.append([current, verdict or "crash", f"signal {ended}"])
    return done


def main(arguments: list[str] | None = None) -> int:
    """The number of findings, shown as a table with what was tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="if left out, another one each time")
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    parser.add_argument("--only", type=int, help="one input, in this process, with its traceback")
    parser.add_argument("--output", type=Path, default=Path("hostile-findings.json"))
    asked = parser.parse_args(arguments)
    seed = secrets.randbelow(10**9) if asked.seed is None else asked.seed
    kinds = asked.kind or list(KINDS)
    print(f"seed {seed}", flush=True)
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as scratch:
            make, read = KINDS[kinds[0]](Path(scratch))
            (Path(scratch) / "input").mkdir()
            read(make(random.Random(f"{seed}/{kinds[0]}/{asked.only}"), Path(scratch) / "input"))
        return 0
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    findings = []
    end = time.monotonic() + asked.minutes * 60
    first = 0
    while time.monotonic() < end:
        for number, kind in enumerate(kinds):
            share = time.monotonic() + (end - time.monotonic()) / (len(kinds) - number) if first == 0 else end
            for index, outcome, seen in run_batch(kind, seed, first, share):
                counts[kind][outcome] += 1
                if outcome not in FINE:
                    findings.append({"kind": kind, "seed": seed, "number": index, "outcome": outcome, "seen": seen})
        first += BATCH
        tried = sum(counted.total() for counted in counts.values())
        print(f"{tried} inputs, {len(findings)} findings", file=sys.stderr, flush=True)
        if findings:
            asked.output.write_text(json.dumps(findings, indent=1) + "\n")
    print("kind".ljust(12) + "".join(name.rjust(10) for name in ("inputs", *OUTCOMES)))
    for kind, counted in counts.items():
        print(kind.ljust(12) + "".join(str(n).rjust(10) for n in (counted.total(), *(counted[o] for o in OUTCOMES))))
    if findings:
        asked.output.write_text(json.dumps(findings, indent=1) + "\n")
        print(f"{len(findings)} findings in {asked.output}")
    return len(findings)


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
