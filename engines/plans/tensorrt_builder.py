"""An ONNX graph -> a TensorRT plan, by TensorRT 10.x, 11.x or TensorRT-RTX; called in a process of its own only.

Networks are strongly typed: the graph's own types and Q/DQ pairs say what runs in which precision, so no precision
flag, calibrator or layer precision is touched, and one code serves all three (11.x and RTX have removed them).
What only one of them has is asked for by name.
"""

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from engines.errors import EngineError
from engines.machine.cuda import Cuda
from engines.onnx_files.graph_file import GraphSignature, read_signature
from engines.plans.layer_listing import count_formats, layers_from_log
from engines.plans.profiles import AxisRange, Profile
from engines.progress import Progress

INCONSISTENT = "values are not self-consistent"
"""In a mere warning of the builder: some size inside the profile cannot run. Treated as the error it is."""

NOT_READ = "Failed to deserialize timing cache"

Messages = list[tuple[str, str]]
"""(severity, text) of everything that TensorRT said."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What is to be built, in JSON's types. `module` is tensorrt or tensorrt_rtx; `graph` carries its precision."""

    module: str
    graph: str
    plan: str
    profile: dict[str, AxisRange]
    workspace_bytes: int | None = None
    timing_cache: str | None = None
    capability: str | None = None
    """Of the GPU to build for, such as "8.9"; TensorRT-RTX only. None: the one in this machine."""
    device: int = 0
    """The number of that one."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What came out: size of the plan, layers per kind and format, and what the user should know."""

    version: str
    plan_bytes: int
    formats: dict[str, dict[str, int]]
    layers: int
    notes: tuple[str, ...]


def build_plan(request: BuildRequest, progress: Progress) -> BuildResult:
    """The plan is at `request.plan`; the timing cache, if one is named, is brought up to date."""
    graph = Path(request.graph)
    signature = read_signature(graph)
    profile = Profile(axes={axis: (low, usual, high) for axis, (low, usual, high) in request.profile.items()})
    if request.device:
        Cuda(request.device)  # becomes the current one of this process, which is the one that TensorRT builds for
    tensorrt = import_module(request.module)
    logger, messages = _recording_logger(tensorrt)
    builder = tensorrt.Builder(logger)
    # References to all of them stay until the end: the parser does not keep its network alive.
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise EngineError(f"Building {graph.name}: TensorRT cannot read it: {_parser_words(parser)}")
    config = builder.create_builder_config()
    notes: list[str] = []
    _configure(tensorrt, config, request, notes)
    _set_profile(builder, config, network, signature, profile)
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(tensorrt, progress)
    timing = _load_timing_cache(config, request, messages, notes)
    plan = builder.build_serialized_network(network, config)
    _refuse_inconsistent(messages, graph, profile)
    if plan is None:
        raise EngineError(f"Building {graph.name}: TensorRT failed: {_last_error(messages)}")
    Path(request.plan).write_bytes(plan)
    _store_timing_cache(timing, request)
    layers = layers_from_log(text for _, text in messages)
    return BuildResult(
        version=str(tensorrt.__version__),
        plan_bytes=int(plan.nbytes),
        formats=count_formats(layers),
        layers=len(layers),
        notes=tuple(notes),
    )


def _recording_logger(tensorrt: Any) -> tuple[Any, Messages]:
    """A logger that keeps (severity, text) of everything: the listing of layers comes at the lowest severity."""
    messages: Messages = []

    class Recorder(tensorrt.ILogger):  # type: ignore[misc]  # TensorRT calls back through a subclass
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.append((severity.name, text))

    return Recorder(), messages


def _monitor(tensorrt: Any, progress: Progress) -> Any:
    """Tells `progress` of the outermost phases: a build has a handful, each with its own count of steps."""

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = max(num_steps, 1)

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                progress(phase_name, min(1.0, step / self.steps[phase_name]))
            return True  # go on

    return Monitor()


def _configure(tensorrt: Any, config: Any, request: BuildRequest, notes: list[str]) -> None:
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.capability is None:
        return
    if not hasattr(tensorrt, "ComputeCapability"):
        raise EngineError(
            f"{request.module} builds for the GPU it runs on only. Build ahead of time with TensorRT-RTX: "
            "--engine tensorrt-rtx."
        )
    name = "SM" + request.capability.replace(".", "")
    if name not in tensorrt.ComputeCapability.__members__:
        capabilities = [f"{m[2:-1]}.{m[-1]}" for m in tensorrt.ComputeCapability.__members__ if m.startswith("SM")]
        raise EngineError(
            f"{request.module} {tensorrt.__version__} cannot build for compute capability {request.capability}. "
            f"It knows {', '.join(capabilities)}."
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(tensorrt.ComputeCapability.__members__[name], 0)
    notes.append(f"built for compute capability {request.capability}")


def _set_profile(builder: Any, config: Any, network: Any, signature: GraphSignature, profile: Profile) -> None:
    shapes = {spec.name: profile.shapes(spec) for spec in signature.inputs}
    optimization = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            optimization.set_shape(tensor.name, *shapes[tensor.name])
    config.add_optimization_profile(optimization)


def _load_timing_cache(config: Any, request: BuildRequest, messages: Messages, notes: list[str]) -> Any:
    """The timing cache in use; begun anew, with a note, if the file is damaged. None if none was asked for.

    TensorRT answers a damaged one with an empty one and a warning.
    """
    if request.timing_cache is None:
        return None
    path = Path(request.timing_cache)
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    mismatch = not config.set_timing_cache(cache, ignore_mismatch=False)
    if content and (mismatch or any(NOT_READ in text for _, text in messages)):
        notes.append(f"the timing cache {path.name} is damaged or of another version or GPU: begun anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _store_timing_cache(cache: Any, request: BuildRequest) -> None:
    if cache is None or request.timing_cache is None:
        return
    path = Path(request.timing_cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(cache.serialize())
    unfinished.replace(path)


def _refuse_inconsistent(messages: Messages, graph: Path, profile: Profile) -> None:
    for _, text in messages:
        if INCONSISTENT in text:
            words = " ".join(text.partition(INCONSISTENT)[2].strip(" .").split())[:200]
            raise EngineError(
                f"Building {graph.name}: some sizes of the profile ({profile.text}) do not fit the graph: {words}. "
                "Choose smaller ones, or multiples of the stride of its skip connections."
            )


def _parser_words(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(min(parser.num_errors, 3))]
    words = [f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors]
    return " ".join("; ".join(words).split())[:400] or "it says no more"


def _last_error(messages: Messages) -> str:
    errors = [text for severity, text in messages if severity in ("ERROR", "INTERNAL_ERROR")]
    return " ".join(errors[-1].split())[:400] if errors else "it says no more"
