"""The wheel alone: installed into an environment that has nothing else, it enlarges a picture in an empty folder."""

import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from releasing.build import ReleaseError, run

ROOT = Path(__file__).resolve().parent.parent
CPU = "cpu"
PORT = 18431
"""Where a service is tried."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an extra is good for: one command of idm-deploy in an empty folder, and a file that it must leave."""

    what: str
    extras: str
    command: str
    file: str | None = None
    with_bundle: bool = False
    """Whether a copy of the packaged bundle lies in the folder."""
    is_service: bool = False
    """Whether the command goes on until it is ended, and answers on `/healthz`."""

    @property
    def is_picture(self) -> bool:
        """Whether the file is a picture that the network made: the same to the byte on every Python."""
        return self.command.startswith(ENLARGE)


ENLARGE = "infer --scale 2 --steps 2"
QUANTIZE = "quantize --pictures 1 --crop 16 --scale 2 --targets ort --report made"

TRIALS: Mapping[str, Trial] = {
    CPU: Trial(what="a picture", extras="cpu", command=ENLARGE, file="chelsea_x2.png"),
    "openvino": Trial(
        what="a picture", extras="openvino", command=f"{ENLARGE} --engine openvino-cpu", file="chelsea_x2.png"
    ),
    "quantize": Trial(
        what="int8", extras="cpu,quantize", command=QUANTIZE, file="made/quantization.json", with_bundle=True
    ),
    "report": Trial(
        what="plots of int8", extras="cpu,quantize,report", command=QUANTIZE, file="made/sqnr.png", with_bundle=True
    ),
    "images": Trial(what="a JPEG XL", extras="cpu,images", command=f"{ENLARGE} --output new.jxl", file="new.jxl"),
    "serve": Trial(what="a service", extras="cpu,serve", command=f"serve --port {PORT}", is_service=True),
    "hub": Trial(what="the hub's client", extras="cpu,hub", command="pull --help"),
}
"""Extra -> what is done with it."""

NOT_TRIED: Mapping[str, str] = {
    "gpu": "needs a GPU",
    "tensorrt": "needs a GPU",
    "tensorrt-rtx": "needs a GPU to run what it builds; `make test-slow` installs it and builds",
    "export": "brings torch; `make test` has it",
    "peers": "other tools, for measurements",
    "ray": "needs a cluster; the slow tests start one where Ray is installed",
    "docs": "for developers",
    "dev": "for developers",
    "release": "for developers",
}
"""The other extras, and why a release is not tried with them."""


def install_alone(wheel: Path, name: str, folder: Path, interpreter: Path = Path(sys.executable)) -> Path:
    """The Python of a new environment in `folder` that has the wheel with a trial's extras, and nothing else."""
    environment = folder / "environment"
    run([str(interpreter), "-m", "venv", "--without-pip", str(environment)], ROOT)
    python = programs(environment) / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    run([*install, "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[{TRIALS[name].extras}]"], ROOT)
    return python


def programs(environment: Path) -> Path:
    """The folder of a virtual environment's commands."""
    return environment / ("Scripts" if sys.platform == "win32" else "bin")


def try_alone(python: Path, name: str, folder: Path) -> bytes | None:
    """What is in the file that a trial leaves, if it leaves one; ReleaseError unless the extra does what it is for."""
    trial = TRIALS[name]
    here = folder / "here"
    here.mkdir()
    if trial.with_bundle:
        packaged = "import deploy.packaged.places as places; print(places.IDM_BUNDLE)"
        source = run([str(python), "-c", packaged], here).strip()
        shutil.copytree(source, here / "demo.bundle")
    command = [str(python.parent / "idm-deploy"), *trial.command.split()]
    if trial.is_service:
        answer_of(command, f"http://127.0.0.1:{PORT}/healthz", here, {})
    else:
        run(command, here, {"XDG_CACHE_HOME": str(folder / "cache")})
    if trial.file is None:
        return None
    if not (here / trial.file).is_file():
        raise ReleaseError(f"{trial.command} with the extra {name} left no {trial.file} but {sorted(here.iterdir())}")
    return (here / trial.file).read_bytes()


def answer_of(command: Sequence[str], address: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a service that a command starts answers at an address, within a minute; it is ended then."""
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment) or None, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(240):
            if process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    return str(answer.read().decode())
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
    finally:
        process.terminate()
        words = process.communicate()[1]
    raise ReleaseError(f"{' '.join(command)} did not answer at {address}:\n{words[-3000:]}")
