"""The table of backends, and opening a graph on one of them by name.

A new backend is one file with the names that engines.contract lists, one line in BACKENDS, one extra in
pyproject.toml and one row of docs/engines.md; the tests of the contract then run on it too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from engines.adapters import onnxruntime_cuda_engine, onnxruntime_engine, openvino_engine
from engines.adapters.tensorrt_engine import TENSORRT_BACKEND, TENSORRT_RTX_BACKEND
from engines.contract import Array, Availability, Engine, refuse_device
from engines.errors import EngineError
from engines.machine.cuda import find_device


class Backend(Protocol):
    """The public names of a backend's module."""

    NAME: str
    PRECISIONS: tuple[str, ...]
    ON_GPU: bool

    def probe(self) -> Availability: ...

    def open_engine(
        self,
        graph: Path,
        *,
        precision: str = ...,
        threads: int | None = ...,
        sizes: Mapping[str, int] | None = ...,
        cache_dir: Path | None = ...,
        constants: Mapping[str, Array] | None = ...,
        device: int | None = ...,
    ) -> Engine: ...


_MODULES: tuple[Backend, ...] = (
    onnxruntime_engine,
    openvino_engine,
    onnxruntime_cuda_engine,
    TENSORRT_BACKEND,
    TENSORRT_RTX_BACKEND,
)

BACKENDS: Mapping[str, Backend] = MappingProxyType({module.NAME: module for module in _MODULES})
"""Name -> module, the default first. None of them imports its package before it is asked to open a graph."""

_LOG = logging.getLogger(__name__)

DEFAULT_BACKEND = onnxruntime_engine.NAME


def open_engine(
    graph: Path,
    *,
    backend: str = DEFAULT_BACKEND,
    precision: str = "fp32",
    threads: int | None = None,
    sizes: Mapping[str, int] | None = None,
    cache_dir: Path | None = None,
    constants: Mapping[str, Array] | None = None,
    device: int | None = None,
) -> Engine:
    """`graph`, an ONNX file with its weights files beside it, ready to run on `backend`; close it after use.

    One engine serves every size that its dynamic axes allow. `sizes` (axis name -> size) fixes some or all of them,
    for an engine that will meet no others: it takes less memory, and OpenVINO in bf16 runs 4 to 8 % faster (seen on
    the full IDM step at 128x128; in fp32 neither backend gained anything that could be told from noise).
    `cache_dir` is where the forms that GPU backends run are kept; None is the user's cache directory.
    `constants` (initializer -> value) replace those of the file; ONNX Runtime on the CPU and TensorRT take them.
    `device` is the number of a GPU; None is the first.
    """
    module = backend_named(backend)
    found = module.probe()
    if not found.available:
        raise EngineError(f"The engine {backend} cannot start: {found.reason}. Type {found.install}.")
    began = time.perf_counter()
    engine = module.open_engine(
        graph,
        precision=precision,
        threads=threads,
        sizes=sizes,
        cache_dir=cache_dir,
        constants=constants,
        device=device,
    )
    seconds = time.perf_counter() - began
    using = "threads of its choice" if threads is None else f"{threads} threads"
    _LOG.info("opened %s on %s %s %s, %s, in %.2f s", graph.name, backend, found.version, precision, using, seconds)
    return engine


def check_device(device: object, backend: str | None = None) -> None:
    """EngineError unless `device` is None, or the number of a GPU that is here, for a backend that runs on GPUs.

    backend: None if it is still to be chosen.
    """
    if device is None:
        return
    if isinstance(device, bool) or not isinstance(device, int) or device < 0:
        raise EngineError(f"The device must be the number of a GPU, such as 0 or 1, found {device!r}.")
    if backend is not None and not backend_named(backend).ON_GPU:
        refuse_device(backend, device)
    if isinstance(problem := find_device(device), str):
        raise EngineError(f"Device {device} cannot be used: {problem}. `idm-deploy doctor` shows what is here.")


def backend_named(name: str) -> Backend:
    """The backend of that name; EngineError with the nearest name if there is none."""
    if name not in BACKENDS:
        near = get_close_matches(name, BACKENDS, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(BACKENDS)}."
        raise EngineError(f"There is no engine called {name!r}. {hint}")
    return BACKENDS[name]


def probe_all() -> tuple[Availability, ...]:
    """What each backend says about this machine, in the table's order; nothing heavy is imported."""
    return tuple(module.probe() for module in BACKENDS.values())


FORM_OF_BACKEND = {
    "onnxruntime-cpu": "instance",
    "openvino-cpu": "instance",
    "onnxruntime-cuda": "instance",
    "tensorrt": "group",
    "tensorrt-rtx": "group",
}
"""How group normalisation is written in the graphs that a backend runs.

Measured on the CPU (ONNX Runtime 1.31, OpenVINO 2026.4, medians of interleaved rounds): on the full IDM both forms are
within 10 % of each other on both engines; on the latent U-Nets "instance" is 8 to 16 % faster on OpenVINO, while ONNX
Runtime goes either way by as much. On GPUs it follows from what they have a kernel for, which is belief: ONNX Runtime
has none for GroupNormalization, TensorRT has.
"""


AROUND_INT8 = {"openvino-cpu": "bf16", "tensorrt": "fp16", "tensorrt-rtx": "fp16"}
"""The precision that a backend is asked for when it opens an int8 graph, and for graphs that have no int8 form.

OpenVINO needs bfloat16 for int8 to be worth anything: a step of the demo model (128x128, one thread) took 150 ms with
float32 around the convolutions, 80 ms with bfloat16, which alone takes 84. It costs 2.4 dB of the fidelity of plain
ddim (48.7 to 46.3) and 0.6 dB with start and data consistency (52.5 to 51.9).
"""


FIXED_SIZES_PAY_FROM = {"openvino-cpu": 500, "onnxruntime-cuda": 1}
"""From how many evaluations of the training's size on a graph is worth compiling again for the one size it meets.

Measured on the IDM step with one thread of a two-core CPU, medians of interleaved rounds: OpenVINO 2026.4 gains 3 to
11 % in bfloat16 (19 % at 64x64) and 2 to 9 % in float32, and compiling (0.5 s for the demo model, 1.2 to 1.8 s for the
full one) costs what 60 to 250 steps gain. What ONNX Runtime's CPU engine gains cannot be told from nothing (-2 to 2 %).
On CUDA only a fixed size becomes one CUDA graph, which is believed to pay always. TensorRT's plans hold many sizes and
capture by themselves.
"""


CARRY_STATE = frozenset({"onnxruntime-cuda"})
"""Backends whose engines keep the state on the device from the first step to the last, the update included."""


def fixed_sizes_pay(backend: str, evaluations: float) -> bool:
    """Whether so many evaluations of the training's size, at one size, are worth a graph compiled for that size.

    Decided from the work alone, never from the clock, so that the same request gives the same picture every time.
    """
    return backend in FIXED_SIZES_PAY_FROM and evaluations >= FIXED_SIZES_PAY_FROM[backend]
