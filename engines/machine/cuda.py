"""NVIDIA's driver, called directly: devices, memory, streams, events and graphs, with nothing to install.

TensorRT's wheels bring no way to allocate device memory from Python, and every package that does is another
dependency. The driver's library is there wherever a GPU is; its C interface (CUDA Driver API reference) keeps its
names. Loading it is cheap, so `find_device` also serves probing.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engines.contract import Array
from engines.errors import EngineError, OutOfMemory

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU: its name, compute capability such as (8, 9), memory in bytes, and the CUDA that its driver has.

    `driver` is (13, 0) for a driver that runs programs made with CUDA 13.0 and older. `number` counts the GPUs that
    the driver shows to this process, from 0.
    """

    name: str
    capability: tuple[int, int]
    memory: int
    driver: tuple[int, int]
    number: int = 0


def find_device(number: int = 0) -> Device | str:
    """The GPU of that number, or why there is none, as the rest of a sentence."""
    devices = find_devices()
    if isinstance(devices, str) or 0 <= number < len(devices):
        return devices if isinstance(devices, str) else devices[number]
    here = ", ".join(f"{device.number} ({device.name})" for device in devices)
    return f"there is no GPU {number}, only {here}"


@lru_cache(maxsize=1)
def find_devices() -> tuple[Device, ...] | str:
    """All GPUs in the driver's order, at least one, or why there is none, as the rest of a sentence."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return f"no NVIDIA driver found ({LIBRARY} is missing)"
    if code := library.cuInit(0):
        return f"the NVIDIA driver found no usable GPU ({_error_text(library, code)})"
    return _all_devices(library)


def _all_devices(library: Any) -> tuple[Device, ...] | str:
    count, version = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    library.cuDriverGetVersion(ctypes.byref(version))
    if count.value < 1:
        return "the NVIDIA driver sees no GPU (CUDA_VISIBLE_DEVICES may hide it)"
    driver = version.value // 1000, version.value % 1000 // 10
    return tuple(_device(library, number, driver) for number in range(count.value))


def _device(library: Any, number: int, driver: tuple[int, int]) -> Device:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    parts = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(value.value)
    return Device(
        name=name.value.decode(errors="replace"),
        capability=(parts[0], parts[1]),
        memory=memory.value,
        driver=driver,
        number=number,
    )


def problem_of_driver(gpu: Device | str, needed: tuple[int, int] | None) -> str:
    """Why a package made with CUDA `needed` cannot run on what was found, as the rest of a sentence; empty if it can.

    A driver runs everything of its own major version (CUDA's minor version compatibility), so only that is compared.
    """
    if isinstance(gpu, str):
        return gpu
    if needed is not None and gpu.driver[0] < needed[0]:
        return (
            f"the NVIDIA driver is too old: it has CUDA {gpu.driver[0]}.{gpu.driver[1]}, "
            f"this package needs a driver with CUDA {needed[0]}.0 or newer"
        )
    return ""


def _error_text(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return text.value.decode(errors="replace") if text.value else f"error {code}"


class Cuda:
    """A GPU made ready for this process; methods are the driver's calls, errors are EngineErrors."""

    def __init__(self, number: int = 0) -> None:
        gpu = find_device(number)
        if isinstance(gpu, str):
            raise EngineError(f"The GPU cannot be used: {gpu}.")
        self.device = gpu
        self._library = ctypes.CDLL(LIBRARY)
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), number)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.enter()

    def enter(self) -> None:
        """The calling thread's driver calls go to this GPU: needed once per thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the device; OutOfMemory if they cannot be had."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return address.value

    def free(self, address: int) -> None:
        """That memory is given back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: Array, stream: Stream) -> None:
        """The contiguous array is copied to the device, in the stream's order."""
        size = ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), _pointer(array), size, stream.handle)

    def download(self, array: Array, address: int, stream: Stream) -> None:
        """The contiguous array is filled from the device once the stream has come so far."""
        size = ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", _pointer(array), ctypes.c_uint64(address), size, stream.handle)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code == OUT_OF_MEMORY:
            raise OutOfMemory("The GPU has not enough memory. Use smaller tiles or a smaller batch.")
        if code:
            raise EngineError(f"The GPU failed in {name}: {_error_text(self._library, code)}.")


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


class Stream:
    """A queue of work on the device; `capture` turns what it is given into a graph that starts in one call."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = ctypes.c_void_p()
        cuda._call("cuStreamCreate", ctypes.byref(self.handle), NON_BLOCKING)

    @property
    def number(self) -> int:
        """The handle as TensorRT takes it."""
        return self.handle.value or 0

    def wait(self) -> None:
        """Everything given to the stream so far is done; what failed there is raised here."""
        self._cuda._call("cuStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What `work` gives to this stream, recorded and not run."""
        graph = ctypes.c_void_p()
        self._cuda._call("cuStreamBeginCapture_v2", self.handle, THREAD_LOCAL)
        try:
            work()
        finally:
            self._cuda._call("cuStreamEndCapture", self.handle, ctypes.byref(graph))
        return Graph(self._cuda, graph)

    def close(self) -> None:
        """The stream is gone, once its work is done."""
        self._cuda._call("cuStreamDestroy_v2", self.handle)


class Graph:
    """Recorded work, started in one call: a step of a hundred small kernels is bound by their starts otherwise."""

    def __init__(self, cuda: Cuda, graph: ctypes.c_void_p) -> None:
        self._cuda = cuda
        self._executable = ctypes.c_void_p()
        try:
            cuda._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0))
        finally:
            cuda._call("cuGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """The recorded work is queued in the stream."""
        self._cuda._call("cuGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        """The recording is gone."""
        self._cuda._call("cuGraphExecDestroy", self._executable)
