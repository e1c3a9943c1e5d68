"""The driver's interface: what is said where there is none; and on a GPU, that data, streams and graphs work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu_times import Stopwatch
from engines.backends import check_device, open_engine
from engines.errors import EngineError, OutOfMemory
from engines.machine import cuda
from engines.machine.cuda import Cuda, Device, Stream, find_device, find_devices, problem_of_driver

H200 = Device(name="H200", capability=(9, 0), memory=150 << 30, driver=(13, 0))

needs_gpu = pytest.mark.skipif(isinstance(find_device(), str), reason=f"{find_device()}")


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    find_devices.cache_clear()
    try:
        assert find_device() == f"no NVIDIA driver found ({tmp_path / 'libcuda.so.1'} is missing)"
        with pytest.raises(EngineError, match=r"The GPU cannot be used: no NVIDIA driver found"):
            Cuda()
    finally:
        find_devices.cache_clear()


class PlayedDriver:
    """Two GPUs, as the driver's interface shows them."""

    NAMES = ("H200", "L4")

    def cuInit(self, flags: int) -> int:  # noqa: N802  the driver's names
        return flags

    def cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        count._obj.value = len(self.NAMES)

    def cuDriverGetVersion(self, version: Any) -> None:  # noqa: N802
        version._obj.value = 13000

    def cuDeviceGet(self, device: Any, number: int) -> None:  # noqa: N802
        device._obj.value = number

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> None:  # noqa: N802
        assert len(self.NAMES[device.value]) < length
        name.value = self.NAMES[device.value].encode()

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> None:  # noqa: N802
        memory._obj.value = (device.value + 1) << 30

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> None:  # noqa: N802
        value._obj.value = {cuda.MAJOR: 9 - device.value, cuda.MINOR: 0}[attribute]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda _: PlayedDriver())
    find_devices.cache_clear()
    yield
    find_devices.cache_clear()


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_told_apart_by_their_number() -> None:
    assert find_device() == Device(name="H200", capability=(9, 0), memory=1 << 30, driver=(13, 0))
    assert find_device(1) == Device(name="L4", capability=(8, 0), memory=2 << 30, driver=(13, 0), number=1)
    assert find_device(2) == "there is no GPU 2, only 0 (H200), 1 (L4)"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "backend", "problem"),
    [
        (2, None, r"Device 2 cannot be used: there is no GPU 2, only 0 \(H200\), 1 \(L4\)\."),
        (2, "tensorrt", r"Device 2 cannot be used: there is no GPU 2"),
        (-1, None, r"The device must be the number of a GPU, such as 0 or 1, found -1"),
        ("cuda:1", None, r"must be the number of a GPU, such as 0 or 1, found 'cuda:1'"),
        (True, None, r"must be the number of a GPU, such as 0 or 1, found True"),
        (0, "openvino-cpu", r"The engine openvino-cpu runs on the processor and knows no device 0\. Leave the device"),
        (0, "openvine-cpu", r"There is no engine called 'openvine-cpu'\. Did you mean openvino-cpu"),
    ],
)
def test_devices_that_cannot_be_had(device: object, backend: str | None, problem: str) -> None:
    with pytest.raises(EngineError, match=problem):
        check_device(device, backend)


@pytest.mark.usefixtures("two_gpus")
def test_devices_that_can_be_had() -> None:
    for device, backend in [(None, "openvino-cpu"), (0, None), (1, "onnxruntime-cuda"), (1, "tensorrt-rtx")]:
        check_device(device, backend)


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino-cpu"])
def test_an_engine_for_the_processor_knows_no_device(backend: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=rf"The engine {backend} runs on the processor and knows no device 1"):
        open_engine(tmp_path / "none.onnx", backend=backend, device=1)


@pytest.mark.parametrize(
    ("needed", "problem"),
    [
        (None, ""),
        ((12, 8), ""),
        ((13, 0), ""),
        ((13, 2), ""),  # minor versions are compatible
        (
            (14, 0),
            "the NVIDIA driver is too old: it has CUDA 13.0, this package needs a driver with CUDA 14.0 or newer",
        ),
    ],
)
def test_what_a_driver_can_run(needed: tuple[int, int] | None, problem: str) -> None:
    assert problem_of_driver(H200, needed) == problem


def test_no_device_is_a_problem_whatever_is_needed() -> None:
    assert problem_of_driver("there is none", None) == "there is none"


@needs_gpu
def test_the_device_says_what_it_is() -> None:
    found = find_device()
    assert isinstance(found, Device)
    assert found.name
    assert found.memory > 1 << 30
    assert found.capability[0] >= 5
    assert found.driver[0] >= 11


@needs_gpu
def test_data_goes_there_and_back() -> None:
    gpu = Cuda()
    stream = Stream(gpu)
    sent = np.arange(1000, dtype=np.float32)
    address = gpu.allocate(sent.nbytes)
    gpu.upload(address, sent, stream)
    back = np.zeros_like(sent)
    gpu.download(back, address, stream)
    stream.wait()
    np.testing.assert_array_equal(back, sent)
    gpu.free(address)
    stream.close()


@needs_gpu
def test_what_is_captured_runs_when_launched() -> None:
    gpu = Cuda()
    stream = Stream(gpu)
    first, second = np.full(8, 1, np.float32), np.zeros(8, np.float32)
    address = gpu.allocate(first.nbytes)
    graph = stream.capture(lambda: gpu.upload(address, first, stream))
    watch = Stopwatch(gpu)
    watch.start(stream)
    graph.launch(stream)
    assert watch.stop_ms(stream) >= 0
    gpu.download(second, address, stream)
    stream.wait()
    np.testing.assert_array_equal(second, first)
    graph.close()
    gpu.free(address)
    stream.close()


@needs_gpu
def test_more_memory_than_there_is() -> None:
    gpu = Cuda()
    with pytest.raises(OutOfMemory, match=r"The GPU has not enough memory\. Use smaller tiles"):
        gpu.allocate(1 << 50)
    with pytest.raises(EngineError, match=r"The GPU failed in cuMemFree_v2: "):
        gpu.free(12345)
