"""What a folder of many small pictures costs beside the network: `python -m benchmarks.folders [--pictures N]`.

Pictures of 24x24 are enlarged four times with the packaged model and its default preset, by `deploy.enlarge`, as
`idm-deploy infer FOLDER -o OUT` does. Small ones, as there the share of reading, writing and keeping the record is
largest. Printed are the part of the wall time in which the network ran, and what the process holds: resident memory
(median of the second hundred and of the last), descriptors and threads. Then the same call again, which makes nothing.

`--long N` makes N pictures of 16x16 to 32x32 twice as large in two steps each, and holds what the process has after the
last thousand against the second thousand: memory within 2 %, no more descriptors or threads. Exit code 1 if not.

`--record ROWS` times a record of so many results instead: opening it, looking up, claiming and finishing.
`--batches ENGINE PRECISION` times pictures made together against pictures made alone, in turns, and compares bytes.
"""

import argparse
import os
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from deploy import Bundle, Upscaler, enlarge
from deploy.engine.graphs import GraphSet
from deploy.folders.record import Entry, Known, Record, Stamp
from deploy.images.files import write_image
from deploy.images.sizes import Size
from deploy.measure.benchmark.start_up import peak_bytes
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.memory import resident_bytes, text_from_bytes

SIDE, SCALE = 24, 4.0
SETTLED = 100
"""Pictures after which what engines and libraries take once is taken."""
MOST_GROWTH = 0.02


@dataclass(kw_only=True)
class Seen:
    """What was seen after each picture, and how long it all took. window: pictures that are held against others."""

    window: int = SETTLED
    resident: "array[int]" = field(default_factory=lambda: array("q"))
    descriptors: "array[int]" = field(default_factory=lambda: array("q"))
    threads: "array[int]" = field(default_factory=lambda: array("q"))
    wall_s: float = 0.0
    network_s: float = 0.0
    again_s: float = 0.0

    @property
    def network_share(self) -> float:
        """Part of the wall time in which the network ran."""
        return self.network_s / self.wall_s

    @property
    def growth(self) -> float:
        """Resident memory of the last hundred pictures against that of the second hundred, as a part of it."""
        return median(self.resident[-self.window :]) / median(self.resident[self.window : 2 * self.window]) - 1

    def more(self, counts: "array[int]") -> int:
        """How many more there were at most among the last hundred pictures than among the second."""
        return max(counts[-self.window :]) - max(counts[self.window : 2 * self.window])


def seen_in_folder(place: Path, pictures: int, *, is_long: bool = False) -> Seen:
    """A folder of so many pictures in `place`, enlarged; is_long: of several sizes, in no time each."""
    inputs = place / "in"
    inputs.mkdir()
    random = np.random.default_rng(0)
    for number in range(pictures):
        side = (16, 20, 24, 28, 32)[number % 5] if is_long else SIDE
        small = random.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
        write_image(np.kron(small, np.ones((4, 4, 1), np.uint8)), inputs / f"{number:05}.png")
    how: dict[str, Any] = {"scale": 2.0, "preset": "draft", "steps": 2} if is_long else {"scale": SCALE}
    seen = Seen(window=min(1000, max(1, pictures // 3))) if is_long else Seen()
    with Upscaler(Bundle.open(IDM_BUNDLE)) as upscaler, _timed_network(seen):
        began = time.perf_counter()
        for result in enlarge(inputs, place / "out", upscaler=upscaler, **how):
            assert result.state == "made", result.error
            seen.resident.append(resident_bytes())
            seen.descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208  names alone
            seen.threads.append(threading.active_count())
        seen.wall_s = time.perf_counter() - began
        began = time.perf_counter()
        states = {result.state for result in enlarge(inputs, place / "out", upscaler=upscaler, **how)}
        seen.again_s = time.perf_counter() - began
    assert states == {"skipped"}, states
    return seen


@contextmanager
def _timed_network(seen: Seen) -> Iterator[None]:
    """While the block runs, the time in which graphs run is added up."""
    run = GraphSet.run

    def timed(graphs: GraphSet, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return run(graphs, *arguments, **named)
        finally:
            seen.network_s += time.perf_counter() - began

    GraphSet.run = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        GraphSet.run = run  # type: ignore[method-assign]


def batch_times(engine: str, precision: str, rounds: int = 8) -> dict[int, tuple[float, bool]]:
    """By pictures made together: the time of a picture against one made alone, and whether all bytes are the same.

    Median over the rounds of the ratio within a round: other programs slow a whole round rather than a part of it.
    """
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(8)]
    size = Size.square(round(SIDE * SCALE))
    ratios: dict[int, list[float]] = {count: [] for count in (2, 4, 8)}
    same = dict.fromkeys(ratios, True)
    with Upscaler(Bundle.open(IDM_BUNDLE), engine, precision) as upscaler:
        sampling = upscaler.sampling()

        def made(count: int) -> tuple[list[np.ndarray], float]:
            began, results = time.perf_counter(), list[np.ndarray]()
            for first in range(0, len(pictures), count):
                with upscaler.sampled_together(pictures[first : first + count], size, sampling) as sampled:
                    results += sampled.pixels()
            return results, time.perf_counter() - began

        for number in range(rounds + 1):
            alone, seconds = made(1)
            for count in ratios:
                together, other = made(count)
                same[count] &= all(np.array_equal(one, two) for one, two in zip(alone, together, strict=True))
                if number:  # in the first round engines make room for the sizes
                    ratios[count].append(other / seconds)
    return {count: (median(each), same[count]) for count, each in ratios.items()}


def record_times(place: Path, rows: int) -> dict[str, float]:
    """Seconds for what a run does with a record of so many results, in a process that did not fill it."""
    with Record(place) as record:
        _fill(record, rows)
    file = place / ".idm-deploy" / "record.sqlite"
    with file.open("rb") as written:  # what the system holds of it in memory is let go
        os.fsync(written.fileno())
        os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert status == 0
        return {}
    before = resident_bytes()
    began = time.perf_counter()
    with Record(place) as record:
        opened = time.perf_counter() - began
        found = 0
        began = time.perf_counter()
        for number in np.random.default_rng(1).integers(0, rows, 1000):
            found += record.find(place / _name(int(number))) is not None
        looked_up = time.perf_counter() - began
        began = time.perf_counter()
        for number in range(100):
            target = place / f"new/{number}.png"
            record.claim(target)
            record.announce(target, _entry(number))
            record.finish(target, _entry(number))
        finished = time.perf_counter() - began
    with Known(place) as known:
        assert known.find(place / _name(0)) is not None
    assert found == 1000
    peak = peak_bytes()
    print(f"record of {rows} results, {text_from_bytes(file.stat().st_size)} on disk")
    print(
        f"opened in {opened:.3f} s; 1000 lookups in {looked_up:.3f} s; 100 results claimed and kept in {finished:.3f} s"
    )
    print(
        f"resident {text_from_bytes(resident_bytes())}, {text_from_bytes(before)} before; peak {text_from_bytes(peak)}"
    )
    sys.stdout.flush()
    os._exit(0)


def _fill(record: Record, rows: int) -> None:
    connection = record._connection
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN IMMEDIATE")
    values = ((os.fsencode(_name(number)), *_entry(number).values()) for number in range(rows))
    connection.executemany(f"INSERT INTO done VALUES(?{', ?' * 9})", values)
    connection.execute("COMMIT")


def _name(number: int) -> str:
    return f"holiday/{number // 10_000:05}/IMG_{number:08}_x4.png"


def _entry(number: int) -> Entry:
    digest = number.to_bytes(16, "big")
    return Entry(
        input=os.fsencode(f"/home/somebody/pictures/holiday/{number // 10_000:05}/IMG_{number:08}.jpg"),
        input_stamp=Stamp(4_000_000 + number, 1_700_000_000_000_000_000 + number, 1_700_000_000_000_000_000 + number),
        input_hash=digest,
        settings=digest,
        output_bytes=40_000_000 + number,
        output_modified=1_700_000_000_000_000_000 + number,
        output_hash=digest,
    )


def _told_of_long(seen: Seen) -> int:
    """The exit code, after a line for people."""
    descriptors, threads = seen.more(seen.descriptors), seen.more(seen.threads)
    print(
        f"{len(seen.resident)} pictures in {seen.wall_s:.0f} s: resident memory of the last {seen.window}, "
        f"{text_from_bytes(median(seen.resident[-seen.window :]))}, against the second {seen.window}: "
        f"{seen.growth:+.2%}; descriptors {descriptors:+d}, threads {threads:+d}"
    )
    return 1 if abs(seen.growth) > MOST_GROWTH or descriptors > 0 or threads > 0 else 0


def main(arguments: list[str]) -> int:
    """The exit code; the figures go to stdout."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folders", description=__doc__)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--long", type=int, metavar="N")
    parser.add_argument("--record", type=int, metavar="ROWS")
    parser.add_argument("--folder", type=Path, help="where to work; the record of 10 million rows takes 3 GB")
    parser.add_argument("--batches", nargs=2, metavar=("ENGINE", "PRECISION"))
    options = parser.parse_args(arguments)
    if options.batches is not None:
        for count, (ratio, same) in batch_times(*options.batches).items():
            print(f"{count} together: {ratio:.2f} times the time alone, {'the same' if same else 'other'} bytes")
        return 0
    with TemporaryDirectory(dir=options.folder) as folder:
        if options.record is not None:
            record_times(Path(folder), options.record)
            return 0
        if options.long is not None:
            return _told_of_long(seen_in_folder(Path(folder), options.long, is_long=True))
        seen = seen_in_folder(Path(folder), options.pictures)
    rate = options.pictures / seen.wall_s
    print(f"{options.pictures} pictures of {SIDE}x{SIDE} to {SCALE:g}x: {seen.wall_s:.1f} s, {rate:.2f} a second")
    print(f"the network ran in {seen.network_share:.1%} of the wall time")
    if options.pictures >= 3 * SETTLED:
        print(
            f"resident memory, last hundred against second hundred: {seen.growth:+.2%}; descriptors "
            f"{seen.more(seen.descriptors):+d}, threads {seen.more(seen.threads):+d}"
        )
    print(f"again, with nothing to make: {seen.again_s:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
