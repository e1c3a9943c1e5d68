"""The machine that this process runs on: processor, memory and GPUs, as the system tells of them."""

import ctypes
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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

AMD = "AuthenticAMD"
"""How its processors name their vendor."""


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """The processor; `features` is empty where the system does not tell."""

    model: str
    cores: int
    usable_cores: int
    features: dict[str, bool]
    vendor: str = ""

    @property
    def computes_bf16_fast(self) -> bool:
        """Whether bfloat16 may be faster than float32: AMX, or BF16 on an AMD."""
        return self.features.get("AMX", False) or (self.features.get("BF16", False) and self.vendor == AMD)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes; None where the system does not tell. `limit` is that of the container, if it has one."""

    total: int | None
    available: int | None
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """An NVIDIA GPU as its driver names it; memory in bytes."""

    name: str
    driver: str | None
    memory: int | None


def find_cpu() -> Cpu:
    """The processor, from /proc/cpuinfo where there is one."""
    info = _read(PROC / "cpuinfo")
    cores = os.cpu_count() or 1
    model, features = cpu_from_cpuinfo(info)
    name = model or platform.processor() or platform.machine()
    return Cpu(
        model=name, cores=cores, usable_cores=usable_cores(), features=features, vendor=vendor_from_cpuinfo(info)
    )


def usable_cores() -> int:
    """How many cores this process may run on: a container or taskset may allow fewer than there are."""
    # macOS and Windows cannot be asked
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_from_cpuinfo(info: str) -> tuple[str, dict[str, bool]]:
    """(model, feature -> present) of the first processor in the text of /proc/cpuinfo; empty where it is silent."""
    fields: dict[str, str] = {}
    for line in info.splitlines():
        name, _, text = line.partition(":")
        fields.setdefault(name.strip(), text.strip())
    flags = set(fields.get("flags", "").split())
    present = {name: bool(flags & set(any_of)) for name, any_of in CPU_FEATURES.items()} if flags else {}
    return fields.get("model name", ""), present


def vendor_from_cpuinfo(info: str) -> str:
    """The vendor of the first processor in the text of /proc/cpuinfo; empty where it is silent."""
    lines = (line.partition(":") for line in info.splitlines())
    return next((text.strip() for name, _, text in lines if name.strip() == "vendor_id"), "")


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
            process = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ()
        return gpus_from_table(process.stdout) if process.returncode == 0 else ()
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
