"""What a Ray cluster costs and survives, simulated with two nodes: `python -m benchmarks.cluster [--pictures N]`.

Pictures of 24x24, one in fifty of them broken, are enlarged four times with the packaged model: by a folder run of one
thread; by a cluster of two nodes with a worker each, of which one node is removed after a third; by one worker beside
the folder run, in turns, for what a picture costs more; and by the command, which is killed after a third and typed
again. Everything listens at 127.0.0.1. Printed is what was seen; what must hold is asserted.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# Ray reads these when it is imported.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
}

import numpy as np
from PIL import Image

from deploy import Bundle, Upscaler
from deploy.cluster.pool import IN_FLIGHT, Share
from deploy.cluster.run import Cluster, ClusterRun
from deploy.folders.request import Request
from deploy.folders.run import Run
from deploy.packaged.places import IDM_BUNDLE

SIDE, SCALE = 24, 4.0
BROKEN_EVERY = 50
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
SETTLED = 40
"""Pictures after which what engines take once is taken."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison with a folder run")
    parser.add_argument("--only", choices=["lost", "overhead", "killed"])
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with TemporaryDirectory() as folder:
        place = Path(folder)
        make_pictures(place / "in", asked.pictures)
        with Upscaler(Bundle.open(IDM_BUNDLE), threads=1) as upscaler:
            if asked.only in (None, "lost"):
                print(lost_node(upscaler, place))
            if asked.only in (None, "killed"):
                print(killed_driver(upscaler, place))
            if asked.only in (None, "overhead"):
                print(overhead(upscaler, place, asked.rounds))


def make_pictures(folder: Path, count: int) -> None:
    """So many files, one in fifty of which is no picture."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 100}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)


def lost_node(upscaler: Upscaler, place: Path) -> dict[str, Any]:
    """A node is removed after a third: nothing is lost, and only what ran on it is made twice."""
    alone = by_folder(upscaler, place)
    total = len(alone)
    with simulated() as cluster:
        second = cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        is_removed = False
        states: Counter[str] = Counter()
        names: Counter[str] = Counter()
        with ClusterRun(upscaler, request(place, "cluster"), on(cluster), say=print, progress=quiet) as run:
            for outcome in run.outcomes():
                states[outcome.state] += 1
                names[outcome.shown_input] += 1
                assert run.pool is not None
                if run.tally.made >= total / 3 and run.pool.size == 2 and not is_removed:
                    cluster.remove_node(second, allow_graceful=False)
                    is_removed = True
            repeated = run.pool.repeated if run.pool else 0
    assert is_removed and set(names.values()) == {1} and len(names) == total, "a picture was lost, or told of twice"
    assert results(place / "folder") == results(place / "cluster"), "the bytes differ"
    assert repeated <= IN_FLIGHT, f"{repeated} pictures were made twice"
    return {"what": "node removed", **states, "handed out twice": repeated, "bytes": "equal"}


def killed_driver(upscaler: Upscaler, place: Path) -> dict[str, Any]:
    """The command is killed after a third and typed again: only the rest is made."""
    alone = by_folder(upscaler, place)
    with simulated() as cluster:
        line = [
            str(Path(sys.executable).with_name("idm-deploy")),
            "infer",
            str(place / "in"),
            "-o",
            str(place / "killed"),
        ]
        line += ["--scale", f"{SCALE:g}", "--bundle", str(IDM_BUNDLE), "--json", "--ray", cluster.address]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
            assert driver.stdout is not None
            for count, _ in enumerate(driver.stdout):
                if count >= len(alone) // 3:
                    driver.send_signal(signal.SIGKILL)
                    break
        time.sleep(5)  # until Ray has ended the workers
        there = len(results(place / "killed"))
        began = time.perf_counter()
        again = subprocess.run(line, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
    rows = [json.loads(row) for row in again.stdout.splitlines()]
    states = Counter(row["kind"] for row in rows if row["kind"] != "run")
    assert states["skipped"] == there and sum(states.values()) == len(alone), (states, there, again.stderr)
    assert results(place / "killed") == results(place / "folder"), "the bytes differ"
    return {"what": "driver killed", "there then": there, "again": dict(states), "seconds": round(seconds, 1)}


def overhead(upscaler: Upscaler, place: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds a picture that one worker takes more than a folder run of one thread, in turns, once both run."""
    ways: dict[str, list[float]] = {"folder": [], "cluster": []}
    with simulated() as cluster:
        for number in range(rounds):
            with Run(upscaler, request(place, f"f{number}", batch=1), say=quiet, progress=quiet) as run:
                ways["folder"].append(pace(run))
            with ClusterRun(upscaler, request(place, f"c{number}"), on(cluster), say=quiet, progress=quiet) as run:
                ways["cluster"].append(pace(run))
    more = [there - here for here, there in zip(ways["folder"], ways["cluster"], strict=True)]
    each = {name: [round(ms, 1) for ms in times] for name, times in ways.items()}
    return {"what": "ms a picture", **each, "more, median": round(median(more), 1)}


def pace(run: Run | ClusterRun) -> float:
    """Milliseconds between two pictures, once those at the beginning are made."""
    times = [time.perf_counter() for _ in run.outcomes()]
    return 1000 * (times[-1] - times[SETTLED]) / (len(times) - 1 - SETTLED)


def by_folder(upscaler: Upscaler, place: Path) -> list[str]:
    """The states of all pictures made on one machine, into `folder`."""
    with Run(upscaler, request(place, "folder", batch=1), say=quiet, progress=quiet) as run:
        return [outcome.state for outcome in run.outcomes()]


def request(place: Path, output: str, batch: int | None = None) -> Request:
    """All pictures, into that folder."""
    images, out = (place / "in",), place / output
    return Request(images=images, output=out, output_is_folder=True, keeps_record=True, scale=SCALE, batch=batch)


def on(cluster: Any) -> Cluster:
    """A worker of one processor on each node."""
    return Cluster(address=cluster.address, share=Share(cpus=1, gpus=0), threads=1)


@contextmanager
def simulated() -> Iterator[Any]:
    """A cluster of one node with one processor."""
    from ray.cluster_utils import Cluster as Simulated

    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    cluster = Simulated(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def results(folder: Path) -> dict[str, bytes]:
    """By name what lies in it, but for what is hidden."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png")}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".")}


def quiet(*_: object) -> None:
    """Say nothing."""


if __name__ == "__main__":
    main()
