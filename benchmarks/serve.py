"""What a service costs beside the network: `python -m benchmarks.serve [--seconds 60] [--clients 32]`.

Starts `idm-deploy serve` on loopback and asks it from so many clients, one request after the other each, for results
of 32x32 to 128x128. Printed are, as JSON:

- throughput: the seconds that `bench --part batches` says for these pictures at its best batch, as a part of the
  seconds that they took. Of those, the processor time of the clients and of the codecs (measured alone) is taken off,
  divided among the cores. By processor time too, which other programs disturb less.
- waiting: the mean time in the queue, against the mean length of the queue over the rate (Little's law).
- memory of service and workers (last quarter against the second), descriptors, threads and files left.
- bytes: how many answers differed from those of a request that was alone.
- ready_s and first_s: from start to ready, and the first picture after that. cancel_steps: how long a cancelled job
  went on, in times of a step. recovery_s: from the kill of a worker in the middle of a job to the next picture, which
  was asked for at once.
"""

import argparse
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from deploy import Bundle
from deploy.engine.choice import engine_choice
from deploy.images.files import encode_image, read_image, write_image
from deploy.images.sizes import Size
from deploy.measure.benchmark.pictures import PictureMaker, random_pictures
from deploy.packaged.places import IDM_BUNDLE
from deploy.sampling.choices import Choices

SIDES = (32, 64, 96, 128)
"""Of results; inputs are four times smaller."""
SCALE = 4
SERVE = ("serve", IDM_BUNDLE, "--port", "0", "--json", "--quiet")
BOUNDARY = "a-boundary-of-a-form"


def body_of(picture: bytes, **fields: str) -> bytes:
    """A form."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    return b"".join([*parts, head, picture, f"\r\n--{BOUNDARY}--\r\n".encode()])


@dataclass
class Load:
    """What the clients have seen."""

    address: str
    bodies: dict[int, bytes]
    ends: float = 0.0
    digests: dict[int, str] = field(default_factory=dict)
    made: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    different: int = 0
    latencies: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, connection: http.client.HTTPConnection, side: int) -> tuple[int, bytes, float]:
        """Status, answer and seconds until one may ask again."""
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        connection.request("POST", "/v1/upscale", self.bodies[side], kind)
        answer = connection.getresponse()
        return answer.status, answer.read(), float(answer.headers.get("Retry-After", "0"))

    def connection(self) -> http.client.HTTPConnection:
        """A new one."""
        return http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=300)

    def client(self, number: int) -> None:
        """One client, until the time is over."""
        connection, turn = self.connection(), number
        while time.monotonic() < self.ends:
            side = SIDES[turn % len(SIDES)]
            turn += 1
            began = time.monotonic()
            status, answer, again = self.ask(connection, side)
            with self.lock:
                self.statuses[status] += 1
                if status == 200:
                    self.made[side] += 1
                    self.latencies.append(time.monotonic() - began)
                    self.different += hashlib.sha256(answer).hexdigest() != self.digests[side]
            time.sleep(min(again, 5.0))
        connection.close()


class Watch(threading.Thread):
    """Looks at the processes twice a second."""

    def __init__(self, process: int, load: Load) -> None:
        super().__init__(daemon=True)
        self.processes = [process, *children_of(process)]
        self.load = load
        self.resident: list[int] = []
        self.queue: list[float] = []
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.wait(0.5):
            self.resident.append(sum(map(resident_of, self.processes)))
            self.queue.append(figures_of(self.load)["idm_queue_length"])


def children_of(process: int) -> list[int]:
    """The workers."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def resident_of(process: int) -> int:
    """Bytes of private memory: what is shared with others is not the service's."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def held_by(processes: list[int]) -> dict[str, int]:
    """Descriptors and threads."""
    places = [Path(f"/proc/{process}") for process in processes]
    return {
        "descriptors": sum(len(list((place / "fd").iterdir())) for place in places),
        "threads": sum(len(list((place / "task").iterdir())) for place in places),
    }


def cpu_of(process: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures_of(load: Load) -> dict[str, float]:
    """What /metrics says."""
    connection = load.connection()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def seconds_of_bench(bundle: Bundle, rounds: int) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds of a picture of each side in the batch that is fastest, as `bench --part batches` makes them.

    Those of a clock, and of processor time, which other programs on the machine change less.
    """
    seconds, spent = {}, {}
    with ExitStack() as stack:
        maker = PictureMaker(bundle, engine_choice(bundle), stack)
        for side in SIDES:
            times: dict[int, list[float]] = {count: [] for count in (1, 2, 4, 8)}
            cpu: dict[int, list[float]] = {count: [] for count in times}
            for turn in range(rounds + 1):
                for count in times:
                    pictures = random_pictures(Size.square(side // SCALE), count)
                    began, before = time.perf_counter(), time.process_time()
                    maker.make(pictures, Size.square(side), Choices())
                    if turn:  # the first wakes the engine
                        times[count].append((time.perf_counter() - began) / count)
                        cpu[count].append((time.process_time() - before) / count)
            seconds[side], spent[side] = min(map(median, times.values())), min(map(median, cpu.values()))
    return seconds, spent


def seconds_of_codecs(pictures: dict[int, bytes], folder: Path) -> dict[int, float]:
    """Processor time of reading an input and writing a result."""
    seconds = {}
    for side, picture in pictures.items():
        (folder / "in.png").write_bytes(picture)
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        began = time.process_time()
        for _ in range(20):
            read_image(folder / "in.png")
            write_image(pixels, folder / "out.png")
        seconds[side] = (time.process_time() - began) / 20
    return seconds


def long_job(connection: http.client.HTTPConnection) -> dict[str, Any]:
    """A job of many steps that has made two of them."""
    body = body_of(encode_image(np.zeros((64, 64, 3), np.uint8), "png"), size="512x512", stages="once", draws="16")
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/v1/upscale?wait=false", body, kind)
    job: dict[str, Any] = json.loads(connection.getresponse().read())
    while job["step"] < 2:
        time.sleep(0.005)
        connection.request("GET", job["links"]["self"])
        job = json.loads(connection.getresponse().read())
    return job


def recovery_s(load: Load, worker: int) -> float:
    """Seconds from the kill of the worker that makes a job to the next picture; the job has failed with the reason."""
    connection = load.connection()
    job = long_job(connection)
    began = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    status, answer, _ = load.ask(connection, 64)
    while status != 200:  # what was asked before anybody noticed fails too
        assert status in (500, 503), answer
        status, answer, _ = load.ask(connection, 64)
    seconds = time.monotonic() - began
    connection.request("GET", job["links"]["self"])
    job = json.loads(connection.getresponse().read())
    assert job["state"] == "failed" and "SIGKILL" in job["error"]["detail"], job
    connection.request("DELETE", job["links"]["self"])
    connection.getresponse().read()
    connection.close()
    return seconds


def cancel_steps(load: Load) -> float:
    """Times of a step that a running job goes on after it was cancelled, until its worker is free again."""
    connection = load.connection()
    job = long_job(connection)
    a_step = job["seconds"] / job["step"]
    connection.request("DELETE", job["links"]["self"])
    connection.getresponse().read()
    cancelled = time.monotonic()
    while figures_of(load)["idm_running"]:
        time.sleep(0.005)
    connection.close()
    return (time.monotonic() - cancelled) / a_step


def main() -> None:
    """Print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--warm", type=float, default=15.0, help="seconds of load before anything is measured")
    parser.add_argument("--rounds", type=int, default=5, help="of bench, for each size and batch")
    parser.add_argument("options", nargs="*", help="of idm-deploy serve, after --")
    arguments = parser.parse_args()
    print(json.dumps(measured(arguments), indent=1))


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    random = np.random.default_rng(0)
    pictures = {
        side: encode_image(random.integers(0, 256, (side // SCALE, side // SCALE, 3), np.uint8), "png")
        for side in SIDES
    }
    bundle = Bundle.open(IDM_BUNDLE)
    with TemporaryDirectory() as place:
        bench, codecs = seconds_of_bench(bundle, arguments.rounds), seconds_of_codecs(pictures, Path(place))
        temporary = Path(place) / "temporary"
        temporary.mkdir()
        began = time.monotonic()
        process = subprocess.Popen(
            [Path(sys.executable).with_name("idm-deploy"), *SERVE, *arguments.options],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        try:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            ready_s = time.monotonic() - began
            load = Load(address, {side: body_of(picture, scale=str(SCALE)) for side, picture in pictures.items()})
            figures = {"ready_s": ready_s} | under_load(load, process.pid, arguments, bench, codecs)
            left = [str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file()]
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        gone = not any(temporary.iterdir())
    return figures | {"files_left": left, "exit_code": code, "folder_is_gone": gone}


def run_clients(load: Load, seconds: float, count: int) -> float:
    """All clients ask for so long; returns how long it was."""
    began = time.monotonic()
    load.ends = began + seconds
    clients = [threading.Thread(target=load.client, args=(number,)) for number in range(count)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return time.monotonic() - began


def under_load(
    load: Load,
    process: int,
    arguments: argparse.Namespace,
    bench: tuple[dict[int, float], dict[int, float]],
    codecs: dict[int, float],
) -> dict[str, Any]:
    """What is seen while all clients ask."""
    alone = load.connection()
    began = time.monotonic()
    load.ask(alone, 64)
    first_s = time.monotonic() - began
    for side in SIDES:
        status, answer, _ = load.ask(alone, side)
        assert status == 200, answer
        load.digests[side] = hashlib.sha256(answer).hexdigest()
    steps, recovery = cancel_steps(load), recovery_s(load, children_of(process)[0])
    # What threads and descriptors are kept is there then, and which pictures are made together.
    run_clients(load, arguments.warm, arguments.clients)
    for seen in (load.made, load.statuses, load.latencies):
        seen.clear()
    watch = Watch(process, load)
    held, before = held_by(watch.processes), figures_of(load)
    cpu, own = sum(map(cpu_of, watch.processes)), time.process_time()
    front = cpu_of(process)
    watch.start()
    wall = run_clients(load, arguments.seconds, arguments.clients)
    watch.ends.set()
    watch.join()
    spent, own = sum(map(cpu_of, watch.processes)) - cpu, time.process_time() - own
    time.sleep(12.0)  # threads that wait for files end after 10
    after = figures_of(load)
    cores = len(os.sched_getaffinity(0))
    work, work_cpu = (sum(count * each[side] for side, count in load.made.items()) for each in bench)
    coding = sum(count * codecs[side] for side, count in load.made.items())
    name = 'idm_stage_seconds_{}{{stage="waiting"}}'
    waits = after[name.format("count")] - before[name.format("count")]
    waited = (after[name.format("sum")] - before[name.format("sum")]) / waits
    rate = sum(load.made.values()) / wall
    quarter = len(watch.resident) // 4
    return {
        "first_s": first_s,
        "cancel_steps": steps,
        "recovery_s": recovery,
        "wall_s": wall,
        "pictures": dict(load.made),
        "pictures_per_second": rate,
        "statuses": dict(load.statuses),
        "different_bytes": load.different,
        "throughput": work / (wall - (own + coding) / cores),
        "throughput_by_cpu": work_cpu / (spent - coding),
        "bench_s": bench[0],
        "batches": {name: after[name] for name in after if name.startswith("idm_batch_size_bucket")},
        "cpu_s": {"service": spent, "front": cpu_of(process) - front, "clients": own, "codecs": coding},
        "latency_s": {"median": median(load.latencies), "worst": max(load.latencies)},
        "waiting_s": {"seen": waited, "by_queue_length": mean(watch.queue) / rate},
        "memory": {
            "second_quarter": median(watch.resident[quarter : 2 * quarter]),
            "last_quarter": median(watch.resident[-quarter:]),
            "growth": median(watch.resident[-quarter:]) / median(watch.resident[quarter : 2 * quarter]) - 1,
        },
        "held_before": held,
        "held_after": held_by(watch.processes),
    }


if __name__ == "__main__":
    main()
