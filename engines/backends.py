"""The table of backends, and opening a graph on one of them by name.

A new backend is one file with the names that engines.contract lists, one line in BACKENDS, one extra in
pyproject.toml and one README row; the tests of the contract then run on it too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from engines import onnxruntime_cuda_engine, onnxruntime_engine, openvino_engine
from engines.contract import Array, Availability, Engine
from engines.errors import EngineError
from engines.tensorrt_engine import TENSORRT_BACKEND, TENSORRT_RTX_BACKEND


class Backend(Protocol):
    """The public names of a backend's module."""

    NAME: str
    PRECISIONS: tuple[str, ...]

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
) -> Engine:
    """`graph`, an ONNX file with its weights files beside it, ready to run on `backend`; close it after use.

    One engine serves every size that its dynamic axes allow. `sizes` (axis name -> size) fixes some or all of them,
    for an engine that will meet no others: it takes less memory, and OpenVINO in bf16 runs 4 to 8 % faster (seen on
    the full IDM step at 128x128; in fp32 neither backend gained anything that could be told from noise).
    `cache_dir` is where the forms that GPU backends run are kept; None is the user's cache directory.
    `constants` (initializer -> value) replace those of the file; ONNX Runtime on the CPU and TensorRT take them.
    """
    module = backend_named(backend)
    found = module.probe()
    if not found.available:
        raise EngineError(f"The engine {backend} cannot start: {found.reason}. Type {found.install}.")
    began = time.perf_counter()
    engine = module.open_engine(
        graph, precision=precision, threads=threads, sizes=sizes, cache_dir=cache_dir, constants=constants
    )
    seconds = time.perf_counter() - began
    using = "threads of its choice" if threads is None else f"{threads} threads"
    _LOG.info("opened %s on %s %s %s, %s, in %.2f s", graph.name, backend, found.version, precision, using, seconds)
    return engine


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
