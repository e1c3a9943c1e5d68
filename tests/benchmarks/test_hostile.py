"""Strangers' files by the thousand: nothing is found in what the tool reads, and all of it in what would be wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import hostile, hostile_inputs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")]


def test_nothing_is_found_in_half_a_minute(tmp_path: Path) -> None:
    """In a process of its own: engines that earlier tests opened have threads, and those do not outlive a fork."""
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.hostile", "--minutes", "0.4", "--output", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (found.read_text()[:3000] if found.exists() else "")
    seed, head, *rows = done.stdout.splitlines()
    assert seed.startswith("seed ") and head.split()[:3] == ["kind", "inputs", "read"]
    assert {row.split()[0] for row in rows} == set(hostile.KINDS)
    tried = [int(row.split()[1]) for row in rows]
    assert min(tried) >= 1 and sum(tried) >= 200


def _wrong(_: Path) -> tuple[hostile_inputs.Make, hostile_inputs.Read]:
    ways = [
        lambda: {}["x"],
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
        lambda: subprocess.run(["true"], check=True),
        lambda: time.sleep(100),
        lambda: bytearray(hostile.MEMORY * 2),
    ]

    def make(chance: random.Random, folder: Path) -> Path:
        (folder / "a").write_text(str(chance.randrange(len(ways))))
        return folder / "a"

    return make, lambda path: [ways[int(path.read_text())](), None][1]


def test_whatever_goes_wrong_is_found_and_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "KINDS", {"wrong": _wrong})
    monkeypatch.setattr(hostile, "HANGS_AFTER", 0.4)
    monkeypatch.setattr(hostile, "BATCH", 3)
    output = tmp_path / "found.json"
    assert hostile.main(["--minutes", "0.2", "--seed", "1", "--output", str(output)]) > 0
    findings = json.loads(output.read_text())
    assert {finding["outcome"] for finding in findings} == {"uncaught", "crash", "executed", "hang"}
    assert any("MemoryError" in finding["seen"] for finding in findings)
    first = next(finding for finding in findings if "KeyError" in finding["seen"])
    with pytest.raises(KeyError):
        hostile.main(["--seed", "1", "--kind", "wrong", "--only", str(first["number"])])
