"""The driver's interface: what is said where there is none; and on a GPU, that data, streams and graphs work."""

from pathlib import Path

import numpy as np
import pytest

from engines.errors import EngineError, OutOfMemory
from engines.machine import cuda
from engines.machine.cuda import Cuda, Device, Stopwatch, Stream, find_device, problem_of_driver

H200 = Device(name="H200", capability=(9, 0), memory=150 << 30, driver=(13, 0))

needs_gpu = pytest.mark.skipif(isinstance(find_device(), str), reason=f"{find_device()}")


def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    find_device.cache_clear()
    try:
        assert find_device() == f"no NVIDIA driver found ({tmp_path / 'libcuda.so.1'} is missing)"
        with pytest.raises(EngineError, match=r"The GPU cannot be used: no NVIDIA driver found"):
            Cuda()
    finally:
        find_device.cache_clear()


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
