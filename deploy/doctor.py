"""What this machine can run: looked up, never imported, so that it also works where something is broken.

Only whether int8 sums come out right is tried, each engine in a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import deploy
from engines.backends import BACKENDS, probe_all
from engines.packages import installed_version
from engines.saturation import MEANS, REFUSE, UNSIGNED

PROC = Path("/proc")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's memory limit stands (version 2, version 1)."""

CPU_FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "amx_bf16"),
    "AMX": ("amx_tile",),
}
"""Name -> the flags of /proc/cpuinfo of which one is enough. VNNI is what makes int8 fast and free of saturation."""

PACKAGES = {
    "numpy": ("", "everything"),
    "pillow": ("", "images"),
    "onnxruntime": ("cpu", "default engine"),
    "onnxruntime-gpu": ("gpu", "the same, NVIDIA GPUs"),
    "openvino": ("openvino", "engine, fastest on x86"),
    "tensorrt": ("tensorrt", "engine, NVIDIA GPUs"),
    "torch": ("export", "checkpoints, export"),
    "onnx": ("export", "export, quantization"),
}
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
class Cpu:
    """The processor; `features` is empty where the system does not tell."""

    model: str
    cores: int
    usable_cores: int
    features: dict[str, bool]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes; None where the system does not tell. `limit` is that of the container, if it has one."""

    total: int | None
    available: int | None
    limit: int | None


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
class Gpu:
    """An NVIDIA GPU as its driver names it; memory in bytes."""

    name: str
    driver: str | None
    memory: int | None


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
    int8 = find_int8([found.name for found in probed if found.available])
    engines = tuple(
        EngineState(precisions=BACKENDS[found.name].PRECISIONS, int8=int8.get(found.name, ""), **vars(found))
        for found in probed
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
    asked = {
        name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=home)
        for name in names
        if name in MEANS
    }
    return {name: _int8_word(name, process) for name, process in asked.items()}


def _int8_word(name: str, process: subprocess.Popen[str]) -> str:
    with process:
        try:
            answer = process.communicate(timeout=PROBE_SECONDS)[0].strip()
        except subprocess.TimeoutExpired:
            process.kill()
            return UNKNOWN
    if answer not in ("true", "false"):
        return UNKNOWN
    return EXACT if answer == "false" else MEANS[name]


def find_packages() -> tuple[Package, ...]:
    """Every package that some part of idm-deploy uses, installed or not."""
    return tuple(
        Package(
            name=name,
            version=installed_version(name),
            purpose=purpose,
            install=f"pip install 'idm-deploy[{extra}]'" if extra else "pip install idm-deploy",
        )
        for name, (extra, purpose) in PACKAGES.items()
    )


def find_cpu() -> Cpu:
    """The processor, from /proc/cpuinfo where there is one."""
    info = _read(PROC / "cpuinfo")
    cores = os.cpu_count() or 1
    # a container or taskset may allow fewer; macOS and Windows cannot be asked
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    model, features = cpu_from_cpuinfo(info)
    return Cpu(
        model=model or platform.processor() or platform.machine(), cores=cores, usable_cores=usable, features=features
    )


def cpu_from_cpuinfo(info: str) -> tuple[str, dict[str, bool]]:
    """(model, feature -> present) of the first processor in the text of /proc/cpuinfo; empty where it is silent."""
    fields: dict[str, str] = {}
    for line in info.splitlines():
        name, _, text = line.partition(":")
        fields.setdefault(name.strip(), text.strip())
    flags = set(fields.get("flags", "").split())
    present = {name: bool(flags & set(any_of)) for name, any_of in CPU_FEATURES.items()} if flags else {}
    return fields.get("model name", ""), present


def find_memory() -> Memory:
    """The machine's memory and the container's limit."""
    sizes = sizes_from_meminfo(_read(PROC / "meminfo"))
    total = sizes.get("MemTotal")
    limits = [int(text) for text in map(_read, CGROUP_LIMITS) if text.strip().isdigit()]
    # version 1 writes an absurdly large number for "no limit"
    real = [limit for limit in limits if total is None or limit < total]
    return Memory(total=total, available=sizes.get("MemAvailable"), limit=min(real, default=None))


def sizes_from_meminfo(info: str) -> dict[str, int]:
    """Name -> bytes, of the lines of /proc/meminfo that are in kB."""
    sizes = {}
    for line in info.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            sizes[name] = int(words[0]) * 1024
    return sizes


def find_gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs by nvidia-smi; without that, one nameless GPU where its driver's library can be loaded."""
    command = shutil.which("nvidia-smi")
    if command is not None:
        query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ()
        return gpus_from_table(done.stdout) if done.returncode == 0 else ()
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return ()
    return (Gpu(name="NVIDIA GPU (nvidia-smi is missing)", driver=None, memory=None),)


def gpus_from_table(table: str) -> tuple[Gpu, ...]:
    """The GPUs of nvidia-smi's lines `name, driver, MiB`; what is no number there ("[N/A]") is None."""
    gpus = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3:
            memory = int(cells[2]) * 2**20 if cells[2].isdigit() else None
            gpus.append(Gpu(name=cells[0], driver=cells[1], memory=memory))
    return tuple(gpus)


def _read(path: Path) -> str:
    """The text of a system file; empty where there is none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
