"""A service in a process of its own, on a port that the system chooses, for tests that ask it over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from deploy.packaged.places import IDM_BUNDLE

START = 60.0
"""Seconds that a service may take to start on a machine where other tests run."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that runs, and what it has said. folder: where its temporary files lie."""

    process: subprocess.Popen[str]
    line: str
    log: Path
    folder: Path

    @property
    def address(self) -> str:
        """Of the API."""
        address: str = json.loads(self.line)["address"]
        return address

    def client(self, **settings: Any) -> httpx2.Client:
        """One that asks it."""
        return httpx2.Client(base_url=self.address, **{"timeout": 60, "verify": False, **settings})

    def files(self) -> list[Path]:
        """What lies in its folder, once what is to go has had the time to go (it may go while we look)."""
        for _ in range(500):
            left = [Path(folder) / name for folder, _, names in os.walk(self.folder) for name in names]
            if not left:
                break
            time.sleep(0.02)
        return left

    def workers(self) -> list[int]:
        """The processes that make pictures."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in children.read_text().split()]

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def served(folder: Path, *bundles: Path, options: tuple[str, ...] = ()) -> Iterator[Service]:
    """A service of these bundles, else of the packaged one, on ONNX Runtime while the block runs."""
    folder.mkdir(exist_ok=True)
    log = folder.parent / f"{folder.name}.log"
    words = ["serve", *map(str, bundles or [IDM_BUNDLE]), "--port", "0", "--json", "--threads", "1"]
    words += ["--engine", "onnxruntime-cpu", "--precision", "fp32", *options]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("idm-deploy"), *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Service(process=process, line=line, log=log, folder=folder)
    finally:
        process.kill()
        process.wait(60)
        assert "Traceback" not in log.read_text(), log.read_text()
        assert process.stdout is not None
        process.stdout.close()
