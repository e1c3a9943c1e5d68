"""What many machines take for 100 million pictures, as a simulation: `python -m benchmarks.scale`.

Runs of `idm-deploy infer --ray` are simulated, each with a driver, machines and a part of the bucket of its own: some
machines are slow, some are lost with what they were at, some pictures are made twice. A driver lists its part, keeps
its done-list and hands pictures out, many at a time at first, here, and single ones at the end, which gives the same
times with fewer events. All that is assumed stands in `Fleet`, and each assumption is an option (`--loss-hours` ...).

`--done-list ROWS` measures instead: a done-list of so many rows, opened and asked in a process that did not write it.
`--driver PICTURES` measures what a driver holds and spends for each picture before the first one is made.
"""

import argparse
import heapq
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import ceil, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deploy.cluster.done import DoneList, Rows, hash_of_making, hash_of_result
from deploy.cluster.places import Listed, Place
from deploy.cluster.worker import Unit
from deploy.measure.benchmark.start_up import peak_bytes
from deploy.picture.memory import resident_bytes, text_from_bytes

ROW_BYTES = 32
"""Of the done-list, for each result."""

DRIVERS = (1, 10, 100)
CASES = {"packaged model": 0.137, "published size": 1.692}
"""Seconds of a picture of 128x128 on two threads, everything included (docs/speed.md: OpenVINO bf16 with five
evaluations; int8 with 20)."""

_HEADINGS = (
    "drivers",
    "pictures each",
    "listed after",
    "driver holds",
    "done-list",
    "hours",
    "limited by",
    "workers idle",
    "made twice",
    "divided beforehand",
)

_ABOVE_0 = frozenset(
    {"seconds", "workers", "shared", "loss_hours", "keys_listed", "puts_per_prefix", "done_list", "files", "driver"}
)

_TURNS = 8
"""How often each worker is given pictures while half of them are left: fewer events, and single ones at the end."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What is assumed. Times in seconds, sizes in bytes, money in dollars."""

    machines: int = 1000
    pictures: int = 100_000_000
    workers: int = 8
    """Of two threads each, on one machine of 16 processors."""
    shared: float = 0.8
    """Part of its speed that a worker keeps where all processors of the machine work."""
    spread: float = 0.3
    """Deviation of a picture's time, as a part of it: pictures differ in size."""
    slow_share: float = 0.02
    """Part of the machines that are slow (neighbours, throttling)."""
    slow_factor: float = 3.0
    loss_hours: float = 200.0
    """Mean time until a machine is lost, as cheap ones are that may be taken away."""
    replaced_s: float = 180.0
    """Until another machine has opened the bundle in its place."""
    in_flight: int = 3
    """Pictures that a lost worker takes with it, to be made again."""
    retried_share: float = 0.001
    """Part of the pictures that are made again because a store did not answer."""
    keys_listed: int = 1000
    """In one answer of an object store."""
    listing_s: float = 0.1
    """Until such an answer is there; they come one after another."""
    prepared_s: float = 20e-6
    """Of a driver for each picture, before the first (`--driver`)."""
    held_bytes: int = 1000
    """By a driver for each picture (`--driver`)."""
    handed_s: float = 0.001
    """Of a driver for each picture that it hands out and notes."""
    input_bytes: int = 3_000
    output_bytes: int = 40_000
    puts_per_prefix: float = 3500.0
    """Requests a second that a store takes for one prefix (Amazon S3: 3 500 that write, 5 500 that read)."""
    machine_hour: float = 0.60
    thousand_puts: float = 0.005
    thousand_gets: float = 0.0004
    gigabyte_out: float = 0.09
    """For results that leave the cloud they are made in; within one region: nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came of one driver's part: seconds from the start, pictures made again, and worker-seconds without work."""

    listed_s: float
    computed_s: float
    handed_s: float
    repeated: int
    idle_share: float
    divided_s: float
    """The end, had every worker been given its equal part at the beginning."""

    @property
    def end_s(self) -> float:
        """When the last picture is made: no sooner than the driver can hand it out."""
        return self.listed_s + max(self.computed_s, self.handed_s)


def simulated(fleet: Fleet, seconds: float, machines: int, pictures: int, random: np.random.Generator) -> Part:
    """One driver's run. seconds: of a picture on a worker that has its machine for itself."""
    mean = seconds / fleet.shared
    slow = np.where(random.random(machines) < fleet.slow_share, fleet.slow_factor, 1.0)
    pace = np.repeat(mean * slow, fleet.workers)
    workers = len(pace)
    lost_at = random.exponential(fleet.loss_hours * 3600, workers)
    free = [(0.0, worker) for worker in range(workers)]
    left, repeated, end, busy = pictures, 0, 0.0, 0.0
    while left:
        now, worker = heapq.heappop(free)
        count = max(left // (2 * _TURNS * workers), 1)
        again = int(random.binomial(count, fleet.retried_share))
        made = count + again
        spent = pace[worker] * max(made + sqrt(made) * fleet.spread * random.standard_normal(), 0.1 * made)
        repeated += again
        if now + spent > lost_at[worker]:
            until = max(lost_at[worker] - now, 0.0)
            kept = int(count * until / spent)
            repeated += min(fleet.in_flight, count - kept)
            lost_at[worker] = now + until + fleet.replaced_s + random.exponential(fleet.loss_hours * 3600)
            heapq.heappush(free, (now + until + fleet.replaced_s, worker))
            left, busy, end = left - kept, busy + until, max(end, now + until)
            continue
        heapq.heappush(free, (now + spent, worker))
        left, busy, end = left - count, busy + spent, max(end, now + spent)
    listed = pictures / fleet.keys_listed * fleet.listing_s + pictures * fleet.prepared_s
    return Part(
        listed_s=listed,
        computed_s=end,
        handed_s=pictures * fleet.handed_s,
        repeated=repeated,
        idle_share=1 - busy / (end * workers),
        divided_s=listed + float(pace.max()) * pictures / workers,
    )


def simulated_fleet(fleet: Fleet, seconds: float, drivers: int, seed: int = 0) -> list[Part]:
    """All drivers, with equal parts of machines and pictures."""
    random = np.random.default_rng(seed)
    machines, pictures = ceil(fleet.machines / drivers), ceil(fleet.pictures / drivers)
    return [simulated(fleet, seconds, machines, pictures, random) for _ in range(drivers)]


def text_of_case(fleet: Fleet, name: str, seconds: float) -> str:
    """A table with a row for each number of drivers, and the bill of the last one."""
    rate = fleet.workers * fleet.shared / seconds
    lines = [
        f"{name}: {seconds:g} s a picture on two threads, {rate * 3600:,.0f} pictures an hour and machine",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        f"|{' --- |' * len(_HEADINGS)}",
    ]
    for drivers in DRIVERS:
        parts = simulated_fleet(fleet, seconds, drivers)
        each = ceil(fleet.pictures / drivers)
        last = max(parts, key=lambda part: part.end_s)
        by = {"the driver": last.handed_s, "machines": last.computed_s, "listing": last.listed_s}
        idle = 1 - sum((1 - part.idle_share) * part.computed_s for part in parts) / (drivers * last.end_s)
        cells = [
            f"{drivers}",
            f"{each:,}",
            f"{last.listed_s / 60:.1f} min",
            text_from_bytes(each * fleet.held_bytes),
            text_from_bytes(each * ROW_BYTES),
            f"{last.end_s / 3600:.1f}",
            max(by, key=lambda cause: by[cause]),
            f"{idle:.0%}",
            f"{sum(part.repeated for part in parts) / fleet.pictures:.2%}",
            f"{max(part.divided_s for part in parts) / 3600:.1f} h",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    hours = fleet.machines * last.end_s / 3600
    puts = fleet.pictures * (1 + 1 / fleet.keys_listed)
    answered = fleet.pictures / last.end_s
    bill = {
        "machines": hours * fleet.machine_hour,
        "requests": puts / 1000 * fleet.thousand_puts + fleet.pictures / 1000 * fleet.thousand_gets,
        "results that leave the cloud": fleet.pictures * fleet.output_bytes / 1e9 * fleet.gigabyte_out,
    }
    moved = {"read": fleet.input_bytes, "written": fleet.output_bytes}
    lines += [
        "",
        f"With {DRIVERS[-1]} drivers: {answered:,.0f} pictures a second, "
        + ", ".join(f"{answered * size / 1e6:,.0f} MB/s {way}" for way, size in moved.items())
        + f", results under {ceil(answered / fleet.puts_per_prefix)} prefixes or more; {hours:,.0f} machine hours; "
        + ", ".join(f"{what} ${money:,.0f}" for what, money in bill.items()),
    ]
    return "\n".join(lines)


def write_done_list(folder: Path, rows: int, files: int) -> None:
    """The done-list of so many pictures, in so many files, as runs leave it."""
    for number in range(files):
        part = DoneList(Place.of(folder))
        part.rows = _rows(range(number * rows // files, (number + 1) * rows // files))
        part._store(part.rows)


def _rows(numbers: range) -> Rows:
    """Random keys, as hashes are: the same for the same numbers."""
    count = np.arange(numbers.start, numbers.stop, dtype=np.uint64)
    keys = [_mixed(count + np.uint64(salt)) for salt in (1, 2**40, 2**41)]
    rows = np.stack([*keys, np.ones_like(count)])
    return np.ascontiguousarray(rows[:, np.argsort(rows[0])])


def _mixed(values: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each, spread evenly (the finaliser of SplitMix64)."""
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return spread


def ask_done_list(folder: Path, rows: int) -> str:
    """What opening it and 1000 questions take in this process. Half of the questions are of what is not there."""
    before = resident_bytes()
    began, spent = time.perf_counter(), time.process_time()
    done = DoneList.open(Place.of(folder))
    opened, opened_cpu = time.perf_counter() - began, time.process_time() - spent
    numbers = np.random.default_rng(1).integers(0, rows, 500).astype(np.uint64)
    there, gone = (_asked(numbers + np.uint64(offset)) for offset in (0, 2**50))
    results = np.sort(there[2])
    began = time.perf_counter()
    found = done.where_done(np.concatenate([there[:2], gone[:2]], axis=1), results)
    asked = time.perf_counter() - began
    assert (found[:500] >= 0).all() and (found[500:] < 0).all()
    return (
        f"{done.rows.shape[1]:,} rows opened in {opened:.2f} s ({opened_cpu:.2f} s of processor time), 1000 looked up"
        f" in {asked:.3f} s; resident {text_from_bytes(before)} before, peak {text_from_bytes(peak_bytes())}"
    )


def _asked(numbers: np.ndarray) -> np.ndarray:
    return np.stack([_mixed(numbers + np.uint64(salt)) for salt in (1, 2**40, 2**41)])


def driver_costs(pictures: int) -> tuple[float, float]:
    """Bytes held and seconds of processor time for each picture of a driver: names, makings, units."""
    before, began = resident_bytes(), time.process_time()
    units, makings = [], []
    for number in range(pictures):
        name = f"{number // 10_000:05}/IMG_{number:08}.jpg"
        picture = Listed(name, 4_000_000 + number, 1_700_000_000_000_000_000 + number)
        makings.append(hash_of_making(picture, "", b"settings"))
        units.append(Unit(0, f"{number // 10_000:05}", (picture,), (0,), True))
        hash_of_result(f"{number // 10_000:05}/IMG_{number:08}_x4.png", 40_000_000 + number)
    spent = time.process_time() - began
    held = resident_bytes() - before
    assert len(units) == len(makings)
    return held / pictures, spent / pictures


def main(arguments: Sequence[str]) -> int:
    """The exit code; tables go to stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="of a picture on two threads; else two cases of docs/speed.md")
    for each in fields(Fleet):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    parser.add_argument("--done-list", type=int, metavar="ROWS")
    parser.add_argument("--files", type=int, default=1, help="of the done-list")
    parser.add_argument("--driver", type=int, metavar="PICTURES")
    parser.add_argument("--folder", type=Path, help="where the done-list is written")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    given = {name: value for name, value in vars(asked).items() if isinstance(value, int | float)}
    if wrong := [name for name, value in given.items() if value < 0 or (not value and name in _ABOVE_0)]:
        parser.error(f"--{wrong[0].replace('_', '-')} must be above 0, found {given[wrong[0]]}")
    if min(asked.machines, asked.pictures) < DRIVERS[-1]:
        parser.error(f"at least {DRIVERS[-1]} machines and pictures were expected, one for each driver")
    if asked.ask:
        print(ask_done_list(asked.ask, asked.done_list))
    elif asked.done_list:
        with TemporaryDirectory(dir=asked.folder) as folder:
            write_done_list(Path(folder), asked.done_list, asked.files)
            again = ["--done-list", str(asked.done_list), "--ask", folder]
            return subprocess.run([sys.executable, "-m", "benchmarks.scale", *again], check=False).returncode
    elif asked.driver:
        held, spent = driver_costs(asked.driver)
        print(f"{held:.0f} bytes and {spent * 1e6:.0f} us of processor time a picture")
    else:
        fleet = replace(Fleet(), **{each.name: getattr(asked, each.name) for each in fields(Fleet)})
        cases = CASES if asked.seconds is None else {"asked for": asked.seconds}
        print("\n\n".join(text_of_case(fleet, name, seconds) for name, seconds in cases.items()))
        print("\nassumed:", ", ".join(f"{name} {value:g}" for name, value in asdict(fleet).items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
