"""TensorRT and TensorRT-RTX: plans that `build-engine` made, run on the GPU.

The graph that is opened is the bundle's; its plan comes from the engine cache. Buffers on the device are kept from run
to run and grow when they must. A shape that comes twice in a row is captured as a CUDA graph.
"""

from functools import lru_cache, partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from engines.arrays import Array
from engines.cache import Cache
from engines.contract import (
    CONSTANT_QDQ,
    GROUP,
    NOTHING_HELD,
    Availability,
    Backend,
    Engine,
    Held,
    Opening,
    TritonBackend,
)
from engines.errors import EngineError, OutOfMemory, is_out_of_memory, short_words
from engines.machine.cuda import Cuda, Graph, Stream, find_device, problem_of_driver
from engines.onnx_files.graph_file import GraphSignature, read_signature
from engines.plans.built_forms import Source, find_plan
from engines.plans.profiles import Profile
from engines.plans.tensorrt_names import TENSORRT, TENSORRT_RTX, TensorRtPackage

PRECISIONS = ("fp16", "fp32")
"""int8 graphs carry their own precision, with fp16 around it."""


def probe(package: TensorRtPackage) -> Availability:
    """Whether the package and a GPU with a driver new enough are here. Building needs less: see build-engine."""
    version = package.version()
    if version is None:
        reason = f"{package.module} is not installed"
    else:
        reason = problem_of_driver(find_device(), package.needed_cuda())
    return Availability.of(package.backend, version, reason, package.install)


def open_engine(package: TensorRtPackage, graph: Path, opening: Opening) -> Engine:
    """`graph` ready to run by its plan in the cache; sizes outside the plan's profile are refused."""
    signature = read_signature(graph).with_sizes(graph, opening.sizes)
    gpu = find_device(opening.device or 0)
    problem = problem_of_driver(gpu, package.needed_cuda())
    if isinstance(gpu, str) or problem:
        raise EngineError(f"Opening {graph}: {package.backend} cannot run here: {problem}.")
    source, cache = Source.of(graph, constants=opening.constants), Cache(opening.cache_dir)
    plan, profile = find_plan(source, package, opening.precision, gpu, cache, opening.sizes)
    return TensorRtEngine(graph, signature, opening.precision, package, plan, profile, gpu.number)


def files_for_triton(graph: Path, precision: str) -> tuple[Path, ...]:
    """The plan that `build-engine` made for the first GPU of this machine."""
    gpu = find_device()
    if isinstance(gpu, str):
        raise EngineError(
            f"The plan of {graph.name} for Triton is made for one kind of GPU, and here {gpu}. Run there."
        )
    return (find_plan(Source.of(graph), TENSORRT, precision, gpu, Cache(None), {})[0],)


def backend_of_package(
    package: TensorRtPackage,
    title: str,
    distribution: str,
    purpose: str = "",
    triton: TritonBackend | None = None,
) -> Backend:
    """The record of one of the two, which have all but their packages in common."""
    return Backend(
        name=package.backend,
        title=title,
        package=distribution,
        extra=package.backend,
        purpose=purpose,
        probe=partial(probe, package),
        open_engine=partial(open_engine, package),
        precisions=PRECISIONS,
        on_gpu=True,
        takes_constants=True,
        plans_ahead=True,
        norm=GROUP,
        int8_form=CONSTANT_QDQ,
        around_int8="fp16",
        triton=triton,
    )


TENSORRT_BACKEND = backend_of_package(
    TENSORRT, "TensorRT", "tensorrt", "engine, NVIDIA GPUs", TritonBackend(name="tensorrt", files=files_for_triton)
)
TENSORRT_RTX_BACKEND = backend_of_package(TENSORRT_RTX, "TensorRT-RTX", "tensorrt-rtx-cu13")


@lru_cache(maxsize=2)
def _import_with_logger(module: str) -> tuple[Any, Any, list[str]]:
    """The module, the one logger a process may have, and its last errors."""
    try:
        tensorrt: Any = import_module(module)
    except ImportError as error:
        raise EngineError(f"{module} cannot start ({short_words(error)}). Install it again.") from error
    errors: list[str] = []

    class Recorder(tensorrt.ILogger):  # type: ignore[misc]  # TensorRT calls back through a subclass
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if severity.name in ("ERROR", "INTERNAL_ERROR"):
                del errors[:-4]
                errors.append(" ".join(text.split()))

    return tensorrt, Recorder(), errors


class TensorRtEngine(Engine):
    """One plan with one execution context, its own stream and its own buffers."""

    def __init__(
        self,
        graph: Path,
        signature: GraphSignature,
        precision: str,
        package: TensorRtPackage,
        plan: Path,
        profile: Profile,
        device: int = 0,
    ) -> None:
        super().__init__(package.backend, precision, graph, signature)
        self.profile = profile
        tensorrt, logger, self._said = _import_with_logger(package.module)
        self._cuda = Cuda(device)
        self._stream = Stream(self._cuda)
        self._runtime = tensorrt.Runtime(logger)
        self._built = self._made(self._runtime.deserialize_cuda_engine(plan.read_bytes()), "could not read its plan")
        self._runtime_cache_file = plan.with_name("runtime.cache")
        self._context, self._runtime_cache = self._create_context()
        self._buffers: dict[str, tuple[int, int]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._captured: Graph | None = None
        self._capturable = True
        self._loaded: Held = NOTHING_HELD

    @property
    def captured(self) -> bool:
        """Whether the last shapes run as a CUDA graph."""
        return self._captured is not None

    def _create_context(self) -> tuple[Any, Any]:
        """The context; with TensorRT-RTX also the cache of what it compiles for this GPU."""
        config: Any = self._built.create_runtime_config() if hasattr(self._built, "create_runtime_config") else None
        if not hasattr(config, "create_runtime_cache"):
            return self._made(self._built.create_execution_context(), "could not get memory to run in"), None
        cache = config.create_runtime_cache()
        if self._runtime_cache_file.is_file():
            cache.deserialize(self._runtime_cache_file.read_bytes())
        config.set_runtime_cache(cache)
        return self._made(self._built.create_execution_context(config), "could not get memory to run in"), cache

    def _made(self, result: Any, problem: str) -> Any:
        if result is not None:
            return result
        words = self._said[-1] if self._said else "it says no more"
        if is_out_of_memory(RuntimeError(words)):
            raise OutOfMemory(f"Opening {self.graph}: {self.name} {problem}: {words[:200]}")
        raise EngineError(
            f"Opening {self.graph}: {self.name} {problem}: {words[:200]}. "
            "Build it again: idm-deploy build-engine --rebuild."
        )

    def _load(self, held: Held) -> None:
        """What is held is in its buffers. There is one of each, so callers who change places copy theirs again."""
        if held is self._loaded:
            return
        self._loaded = NOTHING_HELD
        for name, array in held.arrays.items():
            self._place(name, array.nbytes)
            self._cuda.upload(self._buffers[name][0], array, self._stream)
        self._loaded = held

    def _let_go(self, held: Held) -> None:
        if held is self._loaded:
            self._loaded = NOTHING_HELD

    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        self._cuda.enter()
        arrays = {**held.arrays, **feeds}
        shapes = {name: array.shape for name, array in arrays.items()}
        again = shapes == self._shapes
        if not again:
            self._set_shapes(shapes, arrays)
        self._load(held)
        for name, array in feeds.items():
            self._cuda.upload(self._buffers[name][0], array, self._stream)
        self._execute(again)
        outputs = {spec.name: np.empty(self._shape_of(spec.name), spec.dtype) for spec in self.outputs}
        for name, array in outputs.items():
            self._cuda.download(array, self._buffers[name][0], self._stream)
        self._stream.wait()
        return outputs

    def _set_shapes(self, shapes: dict[str, tuple[int, ...]], feeds: dict[str, Array]) -> None:
        """The context knows all shapes and addresses; what was captured for others is gone."""
        self._refuse_outside(shapes)
        self._drop_captured()
        self._shapes = {}
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise self._failed(f"refuses the shape {shape} of {name}")
            self._place(name, feeds[name].nbytes)
        if missing := self._context.infer_shapes():
            raise self._failed(f"cannot tell the shapes of {', '.join(missing)}")
        for spec in self.outputs:
            self._place(spec.name, prod(self._shape_of(spec.name)) * np.dtype(spec.dtype).itemsize)
        self._shapes = shapes

    def _refuse_outside(self, shapes: dict[str, tuple[int, ...]]) -> None:
        pairs = ((axis, size) for s in self.inputs for axis, size in zip(s.shape, shapes[s.name], strict=True))
        excess = self.profile.excess({axis: size for axis, size in pairs if isinstance(axis, str)})
        if excess:
            raise EngineError(
                f"Running {self.graph.name} on {self.name}: outside the sizes it was built for: {excess}. "
                "Build for these sizes: idm-deploy build-engine --sizes or --scale."
            )

    def _execute(self, again: bool) -> None:
        """Queued in the stream: the first run of a shape plainly, the second captured, from then on the capture."""
        if self._captured is None and again and self._is_capturable():
            try:
                self._captured = self._stream.capture(self._enqueue)
            except EngineError:
                self._capturable = False  # runs as before, with one start per kernel
        if self._captured is not None:
            self._captured.launch(self._stream)
        else:
            self._enqueue()

    def _is_capturable(self) -> bool:
        """TensorRT-RTX can say so; the others say no by failing, and then stay as they are."""
        if not self._capturable:
            return False
        ask = getattr(self._context, "is_stream_capturable", None)
        self._capturable = ask is None or bool(ask(self._stream.number))
        return self._capturable

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.number):
            raise self._failed("failed")

    def _place(self, name: str, size: int) -> None:
        """A buffer of at least `size` bytes belongs to this tensor, and the context knows it."""
        address, capacity = self._buffers.get(name, (0, 0))
        if size > capacity or not address:
            self._stream.wait()
            if address:
                self._cuda.free(address)
                del self._buffers[name]
            self._buffers[name] = (self._cuda.allocate(size), size)
        self._context.set_tensor_address(name, self._buffers[name][0])

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(name))

    def _failed(self, what: str) -> EngineError:
        words = self._said[-1][:200] if self._said else "it says no more"
        return self._run_error(RuntimeError(f"{what}: {words}"))

    def _drop_captured(self) -> None:
        if self._captured is not None:
            self._captured.close()
        self._captured = None

    def _close(self) -> None:
        self._cuda.enter()
        self._stream.wait()
        self._drop_captured()
        if self._runtime_cache is not None:
            self._keep_runtime_cache()
        for address, _ in self._buffers.values():
            self._cuda.free(address)
        self._buffers = {}
        self._context = self._built = self._runtime = self._runtime_cache = None
        self._stream.close()

    def _keep_runtime_cache(self) -> None:
        """What was compiled for this GPU serves the next opening; a cache that cannot be written to does no harm."""
        unfinished = self._runtime_cache_file.with_name(f"runtime.{id(self)}")
        try:
            unfinished.write_bytes(bytes(self._runtime_cache.serialize()))
            unfinished.replace(self._runtime_cache_file)
        except OSError:
            unfinished.unlink(missing_ok=True)
