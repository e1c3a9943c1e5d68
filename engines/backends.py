"""The table of backends, and opening a graph on one of them by name.

A new backend is one file that ends in its record (`engines.contract.Backend`), one line here, one extra in
pyproject.toml and one row of docs/engines.md; the tests of the contract then run on it too. One from elsewhere is
registered with `register`.
"""

import logging
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from engines.adapters import onnxruntime_cuda_engine, onnxruntime_engine, openvino_engine
from engines.adapters.tensorrt_engine import TENSORRT_BACKEND, TENSORRT_RTX_BACKEND
from engines.arrays import Array
from engines.contract import Availability, Backend, Engine, Opening, refuse_device
from engines.errors import STRANGE_FAILURES, EngineError, failed_opening
from engines.machine.cuda import find_device

_LOG = logging.getLogger(__name__)

DEFAULT_BACKEND = onnxruntime_engine.NAME
"""The reference: what is not measured elsewhere was measured on it, and calibration records on it."""

BACKENDS: dict[str, Backend] = {}
"""Name -> record, the default first. None of them imports its package before it is asked to open a graph."""


def register(backend: Backend) -> None:
    """A backend is known from now on, behind those there are; its name must be its own."""
    if backend.name in BACKENDS:
        raise EngineError(f"There is an engine called {backend.name!r} already; give the new one another name.")
    BACKENDS[backend.name] = backend


register(onnxruntime_engine.BACKEND)
register(openvino_engine.BACKEND)
register(onnxruntime_cuda_engine.BACKEND)
register(TENSORRT_BACKEND)
register(TENSORRT_RTX_BACKEND)


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
    normalisation: str | None = None,
) -> Engine:
    """`graph`, an ONNX file with its weights files beside it, ready to run on `backend`; close it after use.

    One engine serves every size that its dynamic axes allow. `sizes` (axis name -> size) fixes some or all of them,
    for an engine that will meet no others: it takes less memory, and OpenVINO runs faster (docs/measurements.md).
    `cache_dir` is where the forms that GPU backends run are kept; None is the user's cache directory.
    `constants` (initializer -> value) replace those of the file; ONNX Runtime on the CPU and TensorRT take them.
    `device` is the number of a GPU; None is the first. `normalisation` is one of the record's ways; None is its first.
    """
    record = backend_named(backend)
    state = record.probe()
    if not state.available:
        raise EngineError(f"The engine {backend} cannot start: {state.reason}. Type {state.install}.")
    began = time.perf_counter()
    opening = Opening(
        precision=precision,
        threads=threads,
        sizes=sizes or {},
        cache_dir=cache_dir,
        constants=constants or {},
        device=device,
        normalisation=normalisation,
    )
    record.check(graph, opening)
    try:
        engine = record.open_engine(graph, opening)
    except STRANGE_FAILURES as error:  # beside what each backend says it raises: of a graph that a stranger made
        raise failed_opening(graph, backend, error) from error
    seconds = time.perf_counter() - began
    using = "threads of its choice" if threads is None else f"{threads} threads"
    _LOG.info("opened %s on %s %s %s, %s, in %.2f s", graph.name, backend, state.version, precision, using, seconds)
    return engine


def check_device(device: object, backend: str | None = None) -> None:
    """EngineError unless `device` is None, or the number of a GPU that is here, for a backend that runs on GPUs.

    backend: None if it is still to be chosen.
    """
    if device is None:
        return
    if isinstance(device, bool) or not isinstance(device, int) or device < 0:
        raise EngineError(f"The device must be the number of a GPU, such as 0 or 1, found {device!r}.")
    if backend is not None and not backend_named(backend).on_gpu:
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
    return tuple(backend.probe() for backend in BACKENDS.values())
