"""ONNX Runtime on the CPU: the engine that is there by default. float32; int8 graphs carry their own precision."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.arrays import Array
from engines.contract import (
    NOTHING_HELD,
    QLINEAR,
    UNSIGNED,
    Availability,
    Backend,
    Engine,
    Held,
    Opening,
    TritonBackend,
    check_request,
)
from engines.errors import STRANGE_FAILURES, EngineError, failed_opening, short_words
from engines.onnx_files.graph_constants import with_constants
from engines.onnx_files.graph_file import GraphSignature, read_signature, signature_of_model
from engines.packages import installed_version, is_importable

NAME = "onnxruntime-cpu"
PRECISIONS: tuple[str, ...] = ("fp32",)
INSTALL = "pip install 'idm-deploy[cpu]'"
PROVIDER = "CPUExecutionProvider"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
"""Both bring the module `onnxruntime`; either serves the CPU."""
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""Where the weights files of a graph lie that is given as bytes."""


def probe() -> Availability:
    """Whether the module is installed; two distributions of it in one place are reported as `reason`."""
    versions = {name: installed_version(name) for name in DISTRIBUTIONS}
    installed = [f"{name} {number}" for name, number in versions.items() if number]
    available = bool(installed) and is_importable("onnxruntime")
    reason = ""
    if not available:
        reason = "the package onnxruntime is not installed"
    elif len(installed) > 1:
        reason = (
            f"{' and '.join(installed)} are both installed and overwrite each other's files: "
            f"pip uninstall {' '.join(DISTRIBUTIONS)}, then install one of them"
        )
    return Availability(
        name=NAME,
        available=available,
        version=next((number for number in versions.values() if number), None) if available else None,
        reason=reason,
        install=INSTALL,
    )


def import_onnxruntime() -> Any:
    """The module `onnxruntime`, or an EngineError with the line that installs it.

    Its wheels (1.31) send usage data and write a device id to the home directory from the moment of import. Only
    the environment variable, set before, stops that (Privacy.md in the wheel); who has set it keeps their choice.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"The engine {NAME} cannot start ({short_words(error)}). Type {INSTALL}.") from error
    return onnxruntime


def open_engine(graph: Path, opening: Opening) -> Engine:
    """`graph` ready to run; threads None leaves their number to ONNX Runtime (one per physical core)."""
    signature = read_signature(graph).with_sizes(graph, opening.sizes)
    model = with_constants(graph, opening.constants) if opening.constants else graph
    return _opened(model, graph, signature, opening)


def open_model(model: bytes, graph: Path, *, threads: int | None = None) -> "OnnxRuntimeEngine":
    """A model that is no file, ready to run; what it was made of is `graph`, beside which its weights files lie."""
    check_request(NAME, "fp32", PRECISIONS, threads)
    return _opened(model, graph, signature_of_model(model, graph), Opening(precision="fp32", threads=threads))


def _opened(model: Path | bytes, graph: Path, signature: GraphSignature, opening: Opening) -> "OnnxRuntimeEngine":
    onnxruntime = import_onnxruntime()
    failures = failures_of(onnxruntime)
    options = session_options(onnxruntime, opening)
    # Graphs for this backend name their int8 operators. In others, tried here in float, weights that are dequantized
    # are constants: made once, and laid out as the convolutions like them (a step of the demo model 72 ms, not 88).
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    if isinstance(model, bytes):
        options.add_session_config_entry(WEIGHTS_FOLDER, str(graph.parent))
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[PROVIDER])
    except failures as error:
        raise failed_opening(graph, NAME, error) from error
    providers = session.get_providers()
    if providers != [PROVIDER]:
        raise EngineError(f"Opening {graph}: asked ONNX Runtime for {PROVIDER} alone, it took {providers}.")
    return OnnxRuntimeEngine(graph, signature, session, failures)


class OnnxRuntimeEngine(Engine):
    """One InferenceSession with its own threads and its own memory pool, which several callers use at once.

    On several threads that makes more steps a second than callers in turns: docs/measurements.md, several callers.
    """

    concurrent = True

    def __init__(
        self, graph: Path, signature: GraphSignature, session: Any, failures: tuple[type[Exception], ...]
    ) -> None:
        super().__init__(NAME, "fp32", graph, signature)
        self._names = [spec.name for spec in signature.outputs]
        self._session = session
        self._failures = failures

    def views(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What `run` gives, not copied: for callers who drop many large outputs at once, as observers do.

        Until the last of them is dropped, the memory pool of the session keeps all of them.
        """
        self._check_open("run")
        self._check_feeds(feeds, NOTHING_HELD)
        return self._run({name: np.ascontiguousarray(array) for name, array in feeds.items()}, NOTHING_HELD)

    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        session = self._session
        self._check_open("run")  # another thread may have closed it meanwhile; a session that was taken lives on
        try:
            return dict(zip(self._names, session.run(self._names, {**held.arrays, **feeds}), strict=True))
        except self._failures as error:
            raise self._run_error(error) from error

    def _close(self) -> None:
        self._session = None
        return_freed_memory()


def return_freed_memory() -> None:
    """Memory that was freed goes back to the system, where the C library can be asked to (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def session_options(onnxruntime: Any, opening: Opening) -> Any:
    """The settings of a session, whatever provider it runs on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = opening.threads or 0
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads spin while a run lasts, and stop when it ends: otherwise they take the cores from whatever comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # A planned block for a shape comes on top of what its first run took, and is kept as well. Without it,
    # peaks are half as high and runs equally fast (docs/measurements.md).
    options.enable_mem_pattern = False
    for axis, size in opening.sizes.items():
        options.add_free_dimension_override_by_name(axis, size)
    # What goes wrong is in the exception; at the default level it is printed to stderr as well.
    options.log_severity_level = 4
    return options


def failures_of(onnxruntime: Any) -> tuple[type[Exception], ...]:
    """Every exception of ONNX Runtime: they share no base class but Exception. RuntimeError is pybind11's own."""
    names = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = {kind for kind in names if isinstance(kind, type) and issubclass(kind, Exception)}
    return (RuntimeError, MemoryError, *STRANGE_FAILURES, *sorted(own, key=lambda kind: kind.__name__))


def files_for_triton(graph: Path, precision: str) -> tuple[Path, ...]:
    """The graph and its weights, as they are."""
    del precision  # there is one
    return graph, *read_signature(graph).weights


BACKEND = Backend(
    name=NAME,
    title="ONNX Runtime, CPU",
    package="onnxruntime",
    extra="cpu",
    purpose="default engine",
    probe=probe,
    open_engine=open_engine,
    precisions=PRECISIONS,
    int8_form=QLINEAR,
    saturating_sums=UNSIGNED,
    takes_constants=True,
    small_chunks=True,
    triton=TritonBackend(name="onnxruntime", files=files_for_triton),
)
