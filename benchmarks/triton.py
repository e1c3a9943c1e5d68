"""A real Triton with a repository of `export-triton`: `python -m benchmarks.triton [--requests 200]`.

Triton is the binary of the package nvidia-pytriton, in a virtual environment of its own under .cache, which is made the
first time (minutes). HTTP, gRPC and metrics are bound to loopback. Printed are, as JSON:

- different: how many answers, over both protocols, had other bytes than the file of `infer`.
- pictures and executions: what Triton counts of them; fewer executions than pictures are batches.
- times_alone: seconds of all requests, by those of the same pictures made one after another by `Upscaler` here.
- refused: of so many requests at once that the queue overflows, how many were refused, and how many of the rest differ.
- cancelled: seconds of a long request, and of a short one right after the client of another long one went away.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.images.files import read_image, write_image
from deploy.packaged.places import IDM_BUNDLE, SAMPLE_IMAGES
from deploy.triton.readme import requirements
from deploy.triton.settings import RepositorySettings, RunSettings

ENVIRONMENT = Path(__file__).resolve().parent.parent / ".cache" / "triton"
PYTRITON = "nvidia-pytriton==0.7.0"
"""With Triton 2.51, whose Python backend needs NumPy 1."""
STUBS = ("3.11", "3.12")
"""Versions of Python that both it and we run."""
START_SECONDS = 120.0

NAME = "demo"
ENGINE = "onnxruntime-cpu"
AT_ONCE, MAX_QUEUE, MAX_BATCH = 16, 24, 8


def problem_here() -> str | None:
    """Why no Triton can run here; None where it can."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "nvidia-pytriton has Triton for Linux on x86-64 alone"
    if python not in STUBS:
        return f"nvidia-pytriton's Triton runs Python {' and '.join(STUBS)} with us, and this is {python}"
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return "this Python has no shared library, which Triton's Python backend loads"
    return None


def environment(place: Path = ENVIRONMENT) -> Path:
    """A virtual environment with Triton and what the packaged model needs, made the first time."""
    done = place / "complete"
    settings = RepositorySettings(name=NAME, run=RunSettings(engine=ENGINE))
    packages = [PYTRITON, *requirements(settings).split()]
    if done.exists() and done.read_text().split() == packages:
        return place
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    subprocess.run([place / "bin" / "pip", "install", "--quiet", *packages], check=True)
    done.write_text("\n".join(packages))
    return place


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a Triton listens."""

    http: str
    grpc: str
    metrics: str

    def counted(self, counter: str) -> float:
        """The sum of what Triton counts under that name for all models."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics") as answer:
            text = answer.read().decode()
        return sum(map(float, re.findall(rf"^{counter}{{.*}} ([0-9.e+]+)$", text, re.MULTILINE)))


@contextmanager
def running(repository: Path, folder: Path) -> Iterator[Addresses]:
    """A Triton with that repository while the block runs; RuntimeError with its log where it does not start."""
    place = environment()
    site = next((place / "lib").glob("python*")) / "site-packages"
    triton = site / "pytriton" / "tritonserver"
    backends = folder / "backends"
    if not backends.exists():
        _copy_backend(triton, backends)
    ports = _free_ports(3)
    loopback = [f"127.0.0.1:{port}" for port in ports]
    words = ["--model-repository", repository, "--backend-directory", backends]
    for kind, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        words += [f"--{kind}-address", "127.0.0.1", f"--{kind}-port", str(port)]
    libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    log = folder / "triton.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [triton / "bin" / "tritonserver", *words],
            stdout=output,
            stderr=output,
            env=os.environ | {"PATH": path, "LD_LIBRARY_PATH": libraries},
        )
    try:
        _wait_until_ready(process, loopback[0], log)
        yield Addresses(http=loopback[0], grpc=loopback[1], metrics=loopback[2])
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _copy_backend(triton: Path, backends: Path) -> None:
    """Triton's Python backend with the stub for this Python, which pytriton keeps apart."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    backends.mkdir()
    target = backends / "python"
    target.mkdir()
    stub = triton / "python_backend_stubs" / python / "triton_python_backend_stub"
    for path in (*(triton / "backends" / "python").iterdir(), stub):
        if path.is_file():
            (target / path.name).symlink_to(path)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_until_ready(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(log.read_text())


@dataclass(frozen=True, kw_only=True)
class Question:
    """A picture and how it is to be made, with the file that `infer` makes of it."""

    path: Path
    parameters: dict[str, Any]
    expected: bytes


def questions(folder: Path) -> list[Question]:
    """Three small pictures at three sizes, which `infer` has made."""
    made = []
    for name, side, scale in (("chelsea", 24, 2), ("coffee", 24, 1.5), ("flower", 16, 4)):
        path, target = folder / f"{name}.png", folder / f"{name}-larger.png"
        pixels = read_image(SAMPLE_IMAGES / f"{name}.png").pixels
        write_image(pixels[20 : 20 + side, 20 : 20 + side], path)
        words = ["infer", path, "-o", target, "--scale", str(scale), "--seed", "3", "--quiet"]
        words += ["--bundle", IDM_BUNDLE, "--engine", ENGINE, "--precision", "fp32", "--threads", "1"]
        subprocess.run([Path(sys.executable).with_name("idm-deploy"), *words], check=True, stdout=subprocess.DEVNULL)
        parameters = {"scale": scale, "seed": 3}
        made.append(Question(path=path, parameters=parameters, expected=target.read_bytes()))
    return made


def export(repository: Path, *more: str) -> None:
    """The packaged model, in a repository."""
    words = ["export-triton", IDM_BUNDLE, "-o", repository, "--name", NAME, "--engine", ENGINE, "--precision", "fp32"]
    words += ["--threads", "1", "--max-queue", str(MAX_QUEUE), "--max-batch", str(MAX_BATCH), "--delay-ms", "5"]
    command = [Path(sys.executable).with_name("idm-deploy"), *words, *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def clients() -> tuple[Any, Any]:
    """tritonclient for HTTP and for gRPC."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gevent, on which the first stands
        import tritonclient.grpc as over_grpc
        import tritonclient.http as over_http
    return over_http, over_grpc


def file_tensor(triton: Any, path: Path) -> Any:
    """The input of a request: one file."""
    tensor = triton.InferInput("file", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[path.read_bytes()]], object))
    return tensor


def different_over_http(address: str, asked: list[Question]) -> int:
    """How many answers are not the file that is expected; so many wait at once as AT_ONCE says."""
    over_http, _ = clients()
    client = over_http.InferenceServerClient(address, concurrency=AT_ONCE, network_timeout=600)
    try:
        different = 0
        for first in range(0, len(asked), AT_ONCE):
            part = asked[first : first + AT_ONCE]
            answers = [
                client.async_infer(NAME, [file_tensor(over_http, each.path)], parameters=each.parameters)
                for each in part
            ]
            files = [answer.get_result().as_numpy("file").item() for answer in answers]
            different += sum(file != each.expected for file, each in zip(files, part, strict=True))
        return different
    finally:
        client.close()


def different_over_grpc(address: str, asked: list[Question], at_once: int = AT_ONCE) -> tuple[int, int]:
    """How many answers are not the file that is expected, and how many requests were refused as the queue was full."""
    _, over_grpc = clients()

    def ask(each: Question) -> bool | None:
        try:
            answer = client.infer(NAME, [file_tensor(over_grpc, each.path)], parameters=each.parameters)
        except over_grpc.InferenceServerException as error:
            if "UNAVAILABLE" in str(error.status()) and "maximum queue size" in str(error):
                return None
            raise
        return bool(answer.as_numpy("file").item() == each.expected)

    with over_grpc.InferenceServerClient(address) as client, ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(ask, asked))
    return results.count(False), results.count(None)


def cancelled(address: str, asked: Question) -> dict[str, float]:
    """The seconds of a long request, and of a short one right after the client of the same long one went away."""
    _, over_grpc = clients()
    tensor = file_tensor(over_grpc, asked.path)
    seconds = {}
    with over_grpc.InferenceServerClient(address) as client:
        for name, steps, limit in (("long", 40, None), ("left", 40, 0.2), ("short", 1, None)):
            began = time.perf_counter()
            try:
                client.infer(NAME, [tensor], parameters={"scale": 4, "steps": steps}, client_timeout=limit)
            except over_grpc.InferenceServerException as error:
                if limit is None or "DEADLINE_EXCEEDED" not in str(error.status()):
                    raise
            seconds[name] = round(time.perf_counter() - began, 2)
    return seconds


def seconds_alone(asked: list[Question]) -> float:
    """Of the same pictures, from their files to files, one after another in this process, which is warm."""
    from deploy import Bundle, Upscaler
    from deploy.images.files import encode_image

    with Upscaler(Bundle.open(IDM_BUNDLE), ENGINE, "fp32", threads=1) as upscaler:
        upscaler.upscale(read_image(asked[0].path).pixels, scale=2)
        began = time.perf_counter()
        for each in asked:
            encode_image(upscaler.upscale(read_image(each.path).pixels, **each.parameters), "png")
        return time.perf_counter() - began


def figures(requests: int, folder: Path) -> dict[str, Any]:
    """What the module says, of so many requests over each protocol in halves."""
    export(folder / "repository")
    kinds = questions(folder)
    asked = [kinds[number // 8 % len(kinds)] for number in range(requests)]  # runs of one kind, as of a film
    half = len(asked) // 2
    with running(folder / "repository", folder) as triton:
        began = time.perf_counter()
        different = different_over_http(triton.http, asked[:half])
        more, refused = different_over_grpc(triton.grpc, asked[half:])
        seconds = time.perf_counter() - began
        counted = {
            "pictures": triton.counted("nv_inference_count"),
            "executions": triton.counted("nv_inference_exec_count"),
        }
        flood = different_over_grpc(triton.grpc, kinds * 20, at_once=20 * len(kinds))
        seconds_of_requests = cancelled(triton.grpc, kinds[0])
    return {
        "requests": len(asked),
        "different": different + more,
        "refused_below_the_limit": refused,
        **counted,
        "times_alone": round(seconds / seconds_alone(asked), 2),
        "flood": {"requests": 20 * len(kinds), "refused": flood[1], "different": flood[0]},
        "cancelled": seconds_of_requests,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=200)
    requests = parser.parse_args().requests
    if problem := problem_here():
        raise SystemExit(problem)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(figures(requests, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
