"""What this machine can run: looked up, never imported, so that it also works where something is broken.

Only whether int8 sums come out right is tried, each engine in a process of its own.
"""

import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import deploy
from engines.backends import BACKENDS, probe_all
from engines.contract import REFUSE, UNSIGNED
from engines.machine.host import Cpu, Gpu, Memory, find_cpu, find_gpus, find_memory
from engines.packages import installed_version

BEFORE_ENGINES = {"numpy": ("", "everything"), "pillow": ("", "images")}
AFTER_ENGINES = {"torch": ("export", "checkpoints, export"), "onnx": ("export", "export, quantization")}
AFTER_ENGINES |= {"huggingface_hub": ("hub", "models on a hub"), "fastapi": ("serve", "a service")}
"""Distribution -> (extra of idm-deploy that brings it, what it is for)."""

EXACT, UNKNOWN = "exact", "unknown"
INT8_WORDS = {
    EXACT: "sums are right",
    UNSIGNED: "sums would be cut off at 16 bits, so weights are made unsigned, which is slower and right",
    REFUSE: "sums would be cut off at 16 bits, so int8 is refused",
    UNKNOWN: "it could not be tried",
}
PROBE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed or missing distribution, and the line that installs it."""

    name: str
    version: str | None
    purpose: str
    install: str


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """A backend of engines: whether it can run here; `reason` says what is missing or to be put right.

    int8: one of INT8_WORDS for an engine of the CPU; "" for what cannot run here, and for GPUs.
    """

    name: str
    available: bool
    version: str | None
    precisions: tuple[str, ...]
    reason: str
    install: str
    int8: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that `idm-deploy doctor` shows; `problems` are sentences that each end in what to do."""

    version: str
    python: str
    system: str
    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...]
    packages: tuple[Package, ...]
    engines: tuple[EngineState, ...]
    problems: tuple[str, ...]


def examine() -> Report:
    """The report on this machine; nothing heavy is imported, nothing is written."""
    probed = probe_all()
    int8 = find_int8([probe.name for probe in probed if probe.available])
    engines = tuple(
        EngineState(precisions=BACKENDS[probe.name].precisions, int8=int8.get(probe.name, ""), **vars(probe))
        for probe in probed
    )
    return Report(
        version=deploy.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=find_cpu(),
        memory=find_memory(),
        gpus=find_gpus(),
        packages=find_packages(),
        engines=engines,
        problems=problems_of_engines(engines),
    )


def problems_of_engines(engines: tuple[EngineState, ...]) -> tuple[str, ...]:
    """What stands in the way of running anything, or endangers it."""
    problems = [f"{engine.name}: {engine.reason}." for engine in engines if engine.available and engine.reason]
    if not any(engine.available for engine in engines):
        lines = " or ".join(engine.install for engine in engines)
        problems.append(f"No engine is installed, so no bundle can be run here. Type {lines}.")
    problems += [
        f"{engine.name}: in int8, {INT8_WORDS[engine.int8]} (this CPU has no VNNI). Use another engine or precision."
        for engine in engines
        if engine.int8 == REFUSE
    ]
    return tuple(problems)


def find_int8(names: Sequence[str]) -> dict[str, str]:
    """For each of these engines that computes int8 on the CPU, whether its sums are right there: one of INT8_WORDS."""
    command = [sys.executable, "-m", "engines.saturation"]
    home = str(Path(deploy.__file__).parent.parent)  # where `engines` lies too, installed or not
    questions = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=home)
        for name in names
        if BACKENDS[name].saturating_sums is not None
    }
    return {name: _int8_word(name, process) for name, process in questions.items()}


def _int8_word(name: str, process: subprocess.Popen[str]) -> str:
    with process:
        try:
            answer = process.communicate(timeout=PROBE_SECONDS)[0].strip()
        except subprocess.TimeoutExpired:
            process.kill()
            return UNKNOWN
    if answer not in ("true", "false"):
        return UNKNOWN
    return EXACT if answer == "false" else BACKENDS[name].saturating_sums or UNKNOWN


def packages_and_extras() -> dict[str, tuple[str, str]]:
    """Every package that some part of idm-deploy uses -> (extra that brings it, what it is for)."""
    engines = {backend.package: (backend.extra, backend.purpose) for backend in BACKENDS.values() if backend.purpose}
    return BEFORE_ENGINES | engines | AFTER_ENGINES


def find_packages() -> tuple[Package, ...]:
    """Every package that some part of idm-deploy uses, installed or not."""
    return tuple(
        Package(
            name=name,
            version=installed_version(name),
            purpose=purpose,
            install=f"pip install 'idm-deploy[{extra}]'" if extra else "pip install idm-deploy",
        )
        for name, (extra, purpose) in packages_and_extras().items()
    )
