"""How much memory there is, how much a picture may take, and arrays that live on disk when that is too little.

The budget bounds the resident memory of the whole process, engines and weights included. Its default is what is
resident at that moment plus `SHARE_OF_FREE` of what the machine, or the container, has free.
"""

import mmap
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from deploy.errors import SizeError
from engines.arrays import Float32

SHARE_OF_FREE = 0.6
"""Part of the free memory that is used by default: the rest is for what other programs do meanwhile."""

UNKNOWN_FREE = 2 << 30
"""Bytes taken to be free on systems that do not say."""

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_UNITS["ti"] = 1 << 40


def bytes_from_text(text: str) -> int:
    """The number of bytes that `text` says: 800M and 1.5GB are decimal, 1GiB and 512Mi binary."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if match is None or match[2] not in _UNITS or float(match[1]) == 0:
        raise SizeError(f"{text!r} is no amount of memory; write it like 800M, 2GB or 1.5GiB.")
    return int(float(match[1]) * _UNITS[match[2]])


def text_from_bytes(count: float) -> str:
    """A number of bytes as people read it: 1.5 GiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; 0 on systems that do not say."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
    return 0


def free_bytes() -> int:
    """Memory that a program may still take without pushing others out: the least of machine and container."""
    found = [value for value in (_meminfo("MemAvailable"), *_cgroup_room()) if value is not None]
    return min(found, default=UNKNOWN_FREE)


def default_budget() -> int:
    """Bytes that may be resident when nobody says."""
    return resident_bytes() + int(SHARE_OF_FREE * free_bytes())


def _meminfo(name: str) -> int | None:
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def _cgroup_room() -> list[int]:
    """What the container's limit leaves, for version 2 and 1 of control groups; cached files count as free."""
    rooms = []
    for limit_file, usage_file, stat_file, cached in _CGROUP_FILES:
        with suppress(OSError, ValueError, KeyError):
            limit, usage = int(Path(limit_file).read_text()), int(Path(usage_file).read_text())
            stat = dict(line.split() for line in Path(stat_file).read_text().splitlines())
            rooms.append(max(limit - usage + int(stat[cached]), 0))
    return rooms


class StateArrays:
    """Float32 arrays in memory, or each in a file of `folder` that has no name: it is gone however the process ends.

    A context manager. After `trim` the arrays on disk take no memory until they are touched again.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._maps: list[mmap.mmap] = []

    @property
    def on_disk(self) -> bool:
        """Whether the arrays are files."""
        return self._folder is not None

    def empty(self, shape: tuple[int, ...]) -> Float32:
        """A new array; what it holds is not said."""
        if self._folder is None:
            return np.empty(shape, np.float32)
        length = int(np.prod(shape)) * 4
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                # Reserved now: a mapped file that runs out of disk later would kill the process.
                _reserve(file.fileno(), length)
                mapped = mmap.mmap(file.fileno(), length)
        except OSError as error:
            raise SizeError(
                f"The picture in the making needs {text_from_bytes(length)} more in a temporary file in "
                f"{self._folder}: {error.strerror}. Make room there, or allow more with `max_memory`."
            ) from error
        self._maps.append(mapped)
        return np.frombuffer(mapped, np.float32).reshape(shape)

    def trim(self) -> None:
        """The pages of arrays on disk leave this process's memory."""
        for mapped in self._maps:
            if hasattr(mapped, "madvise"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.trim()
        self._maps.clear()  # the memory goes with the last array that uses it


def _reserve(descriptor: int, length: int) -> None:
    """The file has `length` bytes that are really there."""
    allocate: Any = getattr(os, "posix_fallocate", None)
    if allocate is None:
        os.ftruncate(descriptor, length)
    else:
        allocate(descriptor, 0, length)
