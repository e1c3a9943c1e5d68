"""ONNX Runtime on an NVIDIA GPU: float32, or fp16 graphs made by engines.plans.half and kept in the cache.

It has no int8 convolution for GPUs: int8 there is TensorRT's business. Inputs and outputs are bound to the device, held
inputs are copied there once, and an engine opened for fixed sizes runs as one CUDA graph.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from engines.adapters.onnxruntime_engine import failures_of, import_onnxruntime, session_options
from engines.arrays import Array
from engines.cache import Cache
from engines.contract import NOTHING_HELD, Availability, Backend, Engine, Held, Opening, Step, TritonBackend
from engines.errors import EngineError, failed_opening
from engines.machine.cuda import find_device, problem_of_driver
from engines.onnx_files.graph_file import GraphSignature, read_signature
from engines.packages import installed_version, is_importable
from engines.plans.built_forms import Source, find_half_graph

NAME = "onnxruntime-cuda"
PRECISIONS: tuple[str, ...] = ("fp32", "fp16")
INSTALL = "pip install 'idm-deploy[gpu]'"
DISTRIBUTION = "onnxruntime-gpu"
PROVIDER = "CUDAExecutionProvider"
CPU_NODES = "assigned to the default CPU EP"
"""In the refusal of a session that may not fall back to the CPU."""
NO_CAPTURE = re.compile(r"graph capture|cuda ?graph", re.IGNORECASE)
"""In the refusal of a session that cannot run as one CUDA graph, such as one with nodes on the CPU."""


def probe() -> Availability:
    """Whether the package and a GPU with a driver new enough for it are here; onnxruntime is not imported."""
    version = installed_version(DISTRIBUTION)
    if version is None or not is_importable("onnxruntime"):
        reason = f"{DISTRIBUTION} is not installed"
    else:
        reason = problem_of_driver(find_device(), cuda_of_wheel())
    return Availability.of(NAME, version, reason, INSTALL)


def cuda_of_wheel() -> tuple[int, int] | None:
    """The CUDA that the installed wheel was made with, read from a file in it; None if it does not say."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    about = Path(spec.origin).parent / "capi" / "build_and_package_info.py"
    match = re.search(r"cuda_version = '(\d+)\.(\d+)", about.read_text()) if about.is_file() else None
    return (int(match[1]), int(match[2])) if match else None


def open_engine(graph: Path, opening: Opening) -> Engine:
    """`graph` ready to run on the GPU; EngineError if CUDA cannot be had, never the CPU instead.

    With every axis fixed the whole graph is captured once and then started in one call.
    """
    signature = read_signature(graph).with_sizes(graph, opening.sizes)
    number = opening.device or 0
    problem = problem_of_driver(find_device(number), cuda_of_wheel())
    if problem:
        raise EngineError(f"Opening {graph}: {NAME} cannot run here: {problem}.")
    onnxruntime = import_onnxruntime()
    _load_libraries(onnxruntime)
    file = graph if opening.precision == "fp32" else find_half_graph(Source.of(graph), Cache(opening.cache_dir))
    failures = failures_of(onnxruntime)
    options_of = partial(session_options, onnxruntime, opening)
    try:
        session, captured = _open_session(onnxruntime, failures, file, options_of, number, fixed=is_fixed(signature))
    except failures as error:
        raise failed_opening(graph, NAME, error) from error
    providers = session.get_providers()
    if PROVIDER not in providers:
        raise EngineError(
            f"Opening {graph}: ONNX Runtime could not start CUDA and took {providers}. The libraries of CUDA and cuDNN "
            f"9 that it needs are missing or do not fit: {INSTALL} brings them."
        )
    return OnnxRuntimeCudaEngine(
        graph, signature, opening.precision, onnxruntime, session, failures, captured, device_id=number
    )


def is_fixed(signature: GraphSignature) -> bool:
    """Whether no input or output has a dynamic axis left."""
    return all(isinstance(axis, int) for spec in (*signature.inputs, *signature.outputs) for axis in spec.shape)


def provider_options(*, capture: bool, device_id: int = 0) -> dict[str, str]:
    """What the CUDA provider is told.

    A belief, until it is measured: timing every algorithm of every convolution (EXHAUSTIVE) pays where the shape is
    fixed and the choice made once, and not where each new shape would begin it again.
    """
    return {
        "device_id": str(device_id),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if capture else "HEURISTIC",
        "enable_cuda_graph": "1" if capture else "0",
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles what it takes, and keeps it
    }


def _open_session(
    onnxruntime: Any,
    failures: tuple[type[Exception], ...],
    file: Path,
    options_of: Callable[[], Any],
    device_id: int,
    *,
    fixed: bool,
) -> tuple[Any, bool]:
    """The session and whether it runs as a CUDA graph, the strictest way that ONNX Runtime accepts.

    Nodes that only compute shapes stay on the CPU by its own choice, and then it refuses both to capture and to do
    without the CPU; the providers are looked at afterwards in any case.
    """
    for capture in (True, False) if fixed else (False,):
        try:
            return _session(onnxruntime, file, options_of(), device_id, capture=capture, strict=True), capture
        except failures as error:
            if not (CPU_NODES in str(error) or NO_CAPTURE.search(str(error))):
                raise
    return _session(onnxruntime, file, options_of(), device_id, capture=False, strict=False), False


def _session(onnxruntime: Any, file: Path, options: Any, device_id: int, *, capture: bool, strict: bool) -> Any:
    """strict: with nodes on the CPU forbidden."""
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = PROVIDER, provider_options(capture=capture, device_id=device_id)
    return onnxruntime.InferenceSession(file, options, providers=[provider])


def _load_libraries(onnxruntime: Any) -> None:
    """CUDA's libraries from pip packages are loaded; what is said when one is missing is kept from stdout and stderr.

    If they are missing, the session has no CUDA provider, which is found out where it is opened.
    """
    onnxruntime.set_default_logger_severity(4)
    if hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()


@dataclass(eq=False)
class _Carried:
    """The value of one `follow` on its way: in the engine's input while `saved` is None, else waiting here."""

    name: str
    saved: Array | None


class OnnxRuntimeCudaEngine(Engine):
    """One session with one binding, which callers take in turns; `captured` says whether it runs as a CUDA graph.

    A captured graph reads and writes always the same addresses, so there inputs are copied into arrays on the device
    that stay. Otherwise each run's inputs are new arrays there, and only held ones stay.
    """

    def __init__(
        self,
        graph: Path,
        signature: GraphSignature,
        precision: str,
        onnxruntime: Any,
        session: Any,
        failures: tuple[type[Exception], ...],
        captured: bool,
        device: str = "cuda",
        device_id: int = 0,
    ) -> None:
        super().__init__(NAME, precision, graph, signature)
        self.captured = captured
        self._device = device  # where arrays are bound; "cpu" lets the binding itself be tested without a GPU
        self._device_id = device_id
        self._onnxruntime = onnxruntime
        self._session = session
        self._failures = failures
        self._binding = session.io_binding()
        self._on_device: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._bound: Held = NOTHING_HELD
        self._carried: _Carried | None = None
        if captured:
            self._bind_results()

    def _bind_results(self) -> None:
        for spec in self.outputs:
            value = self._onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                list(spec.shape), np.dtype(spec.dtype).type, self._device, self._device_id
            )
            self._results[spec.name] = value
            self._binding.bind_ortvalue_output(spec.name, value)

    def _value_of(self, array: Array) -> Any:
        return self._onnxruntime.OrtValue.ortvalue_from_numpy(array, self._device, self._device_id)

    def _put(self, name: str, array: Array) -> None:
        """The array is on the device and bound; where a graph was captured, at the address it knows."""
        if self.captured and name in self._on_device:
            self._on_device[name].update_inplace(array)
            return
        self._on_device[name] = self._value_of(array)
        self._binding.bind_ortvalue_input(name, self._on_device[name])

    def _bind(self, held: Held) -> None:
        """What is held is what the next run reads. Callers who change places bind theirs again."""
        if held is self._bound:
            return
        self._bound = NOTHING_HELD
        for name, array in held.arrays.items():
            if self.captured:
                self._put(name, array)
                continue
            if name not in held.on_device:
                held.on_device[name] = self._value_of(array)
            self._binding.bind_ortvalue_input(name, held.on_device[name])
            self._on_device.pop(name, None)
        self._bound = held

    def _let_go(self, held: Held) -> None:
        if held is self._bound:
            self._bound = NOTHING_HELD
            if not self.captured and self._binding is not None:
                self._make_way()
                self._on_device = {}
                self._binding.clear_binding_inputs()

    def _make_way(self) -> None:
        """Another caller may use the inputs: what a `follow` has there is saved until its next step."""
        carried, self._carried = self._carried, None
        if carried is not None:
            carried.saved = np.array(self._on_device[carried.name].numpy())

    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        try:
            self._make_way()
            self._bind(held)
            for name, array in feeds.items():
                self._put(name, array)
            self._run_on_device()
            names = [spec.name for spec in self.outputs]
            return dict(zip(names, self._binding.copy_outputs_to_cpu(), strict=True))
        except self._failures as error:
            raise self._run_error(error) from error

    def follow(self, name: str, output: str, start: Array, steps: Iterable[Step], held: Held = NOTHING_HELD) -> Array:
        """See `Engine.follow`: the value and what updates keep stay on the device."""
        # A copy, since on a CPU the value shares the array's memory.
        mine = _Carried(name, np.array(start, order="C"))
        update = DeviceUpdate(self._onnxruntime, self._open_update, self._device, self._device_id)
        try:
            for step in steps:
                with self._lock:
                    self._check_open("run")
                    self._check_feeds({**step.feeds, name: start}, held)
                    self._take_step(mine, output, step, held, update)
            with self._lock:
                if self._carried is mine:
                    self._make_way()
        except BaseException as error:
            with self._lock:
                if self._carried is mine:
                    self._carried = None  # whoever stops it does not want the value
            if isinstance(error, self._failures):
                raise self._run_error(error) from error
            raise
        assert mine.saved is not None  # _make_way
        return mine.saved

    def _take_step(self, mine: _Carried, output: str, step: Step, held: Held, update: DeviceUpdate) -> None:
        if self._carried is not mine:
            self._make_way()
            assert mine.saved is not None  # _make_way, by whoever came in between
            self._put(mine.name, mine.saved)
            mine.saved, self._carried = None, mine
        self._bind(held)
        for feed, array in step.feeds.items():
            self._put(feed, np.ascontiguousarray(array).reshape(np.shape(array)))
        result = self._run_on_device()[output]
        update.advance(step, self._on_device[mine.name], result)

    def _run_on_device(self) -> dict[str, Any]:
        """The outputs of what is bound, on the device; where nothing was captured, bound anew for their size."""
        if not self.captured:
            self._binding.clear_binding_outputs()
            for spec in self.outputs:
                self._binding.bind_output(spec.name, self._device, self._device_id)
        self._session.run_with_iobinding(self._binding)
        if self.captured:
            return self._results
        return dict(zip([spec.name for spec in self.outputs], self._binding.get_outputs(), strict=True))

    def _open_update(self, model: bytes) -> Any:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 4
        on_gpu = (PROVIDER, provider_options(capture=False, device_id=self._device_id))
        provider = on_gpu if self._device == "cuda" else "CPUExecutionProvider"
        return self._onnxruntime.InferenceSession(model, options, providers=[provider])

    def _close(self) -> None:
        self._carried = None  # its caller hears at the next step that the engine is closed
        self._bound = NOTHING_HELD
        self._on_device = {}
        self._results = {}
        self._binding = None
        self._session = None


def files_for_triton(graph: Path, precision: str) -> tuple[Path, ...]:
    """The graph, or its fp16 form, and its weights."""
    file = find_half_graph(Source.of(graph), Cache(None)) if precision == "fp16" else graph
    return file, *read_signature(file).weights


BACKEND = Backend(
    name=NAME,
    title="ONNX Runtime, CUDA",
    package=DISTRIBUTION,
    extra="gpu",
    purpose="engine, NVIDIA GPUs",
    probe=probe,
    open_engine=open_engine,
    precisions=PRECISIONS,
    on_gpu=True,
    carries_state=True,
    fixed_sizes_pay_from=1,
    triton=TritonBackend(name="onnxruntime", files=files_for_triton),
)


class DeviceUpdate:
    """Advances a value on the device, where `open_session` makes a session of a model in memory.

    One for each sequence of runs: it holds what their updates keep.
    """

    def __init__(self, onnxruntime: Any, open_session: Callable[[bytes], Any], device: str, device_id: int = 0) -> None:
        self._value = onnxruntime.OrtValue
        self._open = open_session
        self._device = device, device_id
        self._sessions: dict[bytes, tuple[Any, Any]] = {}
        self._kept: list[Any] = []

    def advance(self, step: Step, x: Any, y: Any) -> None:
        """`x`, a value on the device, becomes the next input; `y` is the output of the run, there too."""
        session, binding = self._session(step.update)
        kept = self._value.ortvalue_from_shape_and_type(x.shape(), np.float32, *self._device)
        earlier = self._kept[: step.earlier]
        inputs = {"x": x, "y": y, **{f"e{at}": value for at, value in enumerate(earlier, start=1)}}
        inputs |= {name: self._given(array) for name, array in step.given.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("next", x)
        binding.bind_ortvalue_output("kept", kept)
        session.run_with_iobinding(binding)
        self._kept = [kept, *earlier]

    def _given(self, array: Array) -> Any:
        """On the device; a single number stays where it is."""
        return self._value.ortvalue_from_numpy(np.asarray(array, order="C"), *(self._device if array.ndim else ()))

    def _session(self, update: bytes) -> tuple[Any, Any]:
        if update not in self._sessions:
            session = self._open(update)
            self._sessions[update] = (session, session.io_binding())
        return self._sessions[update]
