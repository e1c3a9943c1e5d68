"""The contract of all backends: an `Engine` takes named arrays and returns named arrays, checked before it runs.

A `Backend` is the record of one: how it is asked for, opened and chosen. Its engines subclass Engine and write `_run`
and `_close`, which only work. All checks are here, so misuse gives the same sentence on every backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from engines.arrays import Array
from engines.errors import EngineError, OutOfMemory, is_out_of_memory, short_words

if TYPE_CHECKING:
    from engines.onnx_files.graph_file import GraphSignature

AxisSizes = dict[str, tuple[int, str]]
"""Name of a dynamic axis -> its size in this run and the tensor that said so first."""

ANONYMOUS = "?"
"""Name of a dynamic axis that the graph leaves nameless: any size, not tied to another axis."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of a graph's input or output; a str in the shape is a dynamic axis.

    Axes of the same name have the same size in one run, except ANONYMOUS ones.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True, kw_only=True)
class Availability:
    """Whether a backend can run here; if not, why (one sentence) and the line that installs it.

    `reason` may be set although the backend is available: something about the installation to put right.
    """

    name: str
    available: bool
    version: str | None
    reason: str
    install: str

    @classmethod
    def of(cls, name: str, version: str | None, reason: str, install: str) -> Self:
        """Available unless there is a reason why it is not."""
        return cls(name=name, available=not reason, version=None if reason else version, reason=reason, install=install)


@dataclass(frozen=True, eq=False)
class Held:
    """Inputs that stay the same from run to run of one caller; made by `Engine.hold`, for `run` and `follow`.

    `on_device`: the backend's own copies of the arrays, made in the first run.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    on_device: dict[str, Any] = field(default_factory=dict)


NOTHING_HELD = Held()


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One step of a loop in which an engine feeds itself: a run of its graph, and the update of its input after it.

    The update is a second graph. Of x, the input that is carried from run to run, and y, an output of the run, it makes
    the next x. It also makes a value that later updates are given again.

    feeds: the other inputs of the run. update: an ONNX model in float32 with the outputs `next` and `kept`, both in the
    shape of x, and the inputs x, y, e1, e2, .. (`kept` of the last `earlier` updates, newest first) and those of
    `given`. `next` may be written where x lies, so its last node alone writes it.
    """

    feeds: Mapping[str, Array]
    update: bytes
    given: Mapping[str, Array] = field(default_factory=dict)
    earlier: int = 0


class Engine(ABC):
    """A graph opened on a backend; a context manager that releases the memory on exit.

    Any number of threads may call it. What belongs to one caller is an argument (`Held`), so callers never see each
    other's inputs. Runs take turns, unless the backend computes several at once by itself (`concurrent`).
    """

    concurrent = False

    def __init__(self, name: str, precision: str, graph: Path, signature: "GraphSignature") -> None:
        self.name = name
        self.precision = precision
        self.graph = graph
        self.inputs = signature.inputs
        self.outputs = signature.outputs
        self._closed = False
        self._lock: AbstractContextManager[Any] = nullcontext() if self.concurrent else Lock()

    def run(self, feeds: Mapping[str, Array], held: Held = NOTHING_HELD) -> dict[str, Array]:
        """All outputs by name, as arrays that belong to the caller and that no later run changes.

        `feeds` has exactly the inputs that are not held, of exactly their dtypes: nothing is converted in silence.
        Arrays need not be contiguous; they are never written to, and may be held until the next run.
        """
        with self._lock:
            self._check_open("run")
            sizes = self._check_feeds(feeds, held)
            return self._checked(self._run(_contiguous(feeds), held), sizes)

    def follow(self, name: str, output: str, start: Array, steps: Iterable[Step], held: Held = NOTHING_HELD) -> Array:
        """The value of the input `name` after all steps, of which each makes it anew of itself and of `output`.

        `start` stays as it was. The value does not leave the device before the end, unless other callers run in
        between: each step takes its turn, and nothing is locked while `steps` makes the next one. Only for backends
        whose record says `carries_state`.
        """
        del name, output, start, steps, held
        raise EngineError(f"{self.name} carries no value of {self.graph.name} from one run to the next.")

    def hold(self, feeds: Mapping[str, Array]) -> Held:
        """Inputs that stay the same for many runs, which are given the other ones alone.

        A GPU copies them to the device once. The arrays are copied nowhere else, so they must not be written to while
        they are in use.
        """
        self._check_open("hold inputs of")
        expected = [spec.name for spec in self.inputs]
        unknown = [name for name in feeds if name not in expected]
        if unknown:
            raise EngineError(self._names_message("Holding inputs of", unknown, [], expected))
        sizes: AxisSizes = {}
        for spec in self.inputs:
            problem = problem_of_array(feeds[spec.name], spec, sizes) if spec.name in feeds else ""
            if problem:
                raise EngineError(f"Holding inputs of {self.graph.name}: input {spec.name} {problem}.")
        return Held(_contiguous(feeds))

    def let_go(self, held: Held) -> None:
        """The backend's memory for these held inputs is free; they are not given to `run` again."""
        with self._lock:
            self._let_go(held)
            held.on_device.clear()

    def reorders(self) -> int | None:
        """How many arrays each run copies into another order in memory; None where the backend does not tell."""
        return None

    def close(self) -> None:
        """The backend's memory is released; `run` afterwards is an EngineError, `close` does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        self._check_open("enter")
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        """All outputs for checked, contiguous arrays, some fed and some held; a backend's failure as EngineError."""

    def _let_go(self, held: Held) -> None:  # noqa: B027  a backend without a device of its own has nothing to do
        """Drop what was bound or loaded for `held`."""

    @abstractmethod
    def _close(self) -> None:
        """Drop every reference to the backend's objects; called once."""

    def _run_error(self, error: Exception) -> EngineError:
        """What to raise for an exception of the backend during a run."""
        if is_out_of_memory(error):
            return OutOfMemory(
                f"Running {self.graph.name} on {self.name}: not enough memory ({short_words(error)}). "
                "Use smaller tiles or a smaller batch."
            )
        return EngineError(f"Running {self.graph.name}: {self.name} failed: {short_words(error)}")

    def _check_open(self, doing: str) -> None:
        if self._closed:
            raise EngineError(f"Cannot {doing} {self.graph.name}: this engine is closed. Open it again.")

    def _check_feeds(self, feeds: Mapping[str, Array], held: Held) -> AxisSizes:
        expected = [spec.name for spec in self.inputs]
        if twice := [name for name in feeds if name in held.arrays]:
            raise EngineError(
                f"Running {self.graph.name}: {', '.join(twice)} is held already. Leave it out, or hold other inputs."
            )
        arrays = {**held.arrays, **feeds}
        unknown = [name for name in arrays if name not in expected]
        missing = [name for name in expected if name not in arrays]
        if unknown or missing:
            raise EngineError(self._names_message("Running", unknown, missing, expected))
        sizes: AxisSizes = {}
        for spec in self.inputs:
            problem = problem_of_array(arrays[spec.name], spec, sizes)
            if problem:
                raise EngineError(f"Running {self.graph.name}: input {spec.name} {problem}.")
        return sizes

    def _checked(self, results: dict[str, Array], sizes: AxisSizes) -> dict[str, Array]:
        """The outputs that the graph declares, in memory of their own: a view would keep the backend's pool alive."""
        outputs = {}
        for spec in self.outputs:
            array = results[spec.name]
            problem = problem_of_array(array, spec, sizes)
            if problem:
                raise EngineError(f"Running {self.graph.name} on {self.name}: output {spec.name} {problem}.")
            outputs[spec.name] = array if array.flags.owndata else array.copy()
        return outputs

    def _names_message(self, doing: str, unknown: list[str], missing: list[str], expected: list[str]) -> str:
        parts = []
        if missing:
            parts.append(f"missing {', '.join(missing)}")
        if unknown:
            near = get_close_matches(unknown[0], expected, 1)
            parts.append(f"unknown {', '.join(unknown)}" + (f" (did you mean {near[0]}?)" if near else ""))
        return f"{doing} {self.graph.name}: inputs {'; '.join(parts)}. It takes {', '.join(expected) or 'none'}."


INSTANCE, GROUP = "instance", "group"
NORM_FORMS: Final = (INSTANCE, GROUP)
"""How group normalisation is written in a graph: with InstanceNormalization, or with GroupNormalization."""

QLINEAR: Final = "qlinear"
SCALED_QDQ: Final = "scaled-qdq"
CONSTANT_QDQ: Final = "constant-qdq"
"""The forms of int8 graphs, by how a layer is written: integer operators whose outputs are codes too; Q/DQ of unsigned
codes with constant scales, and a multiplication before and after; Q/DQ of signed codes with zero point 0, whose
constants are replaced from one timestep range to the next."""

UNSIGNED: Final = "unsigned weights"
REFUSE: Final = "refused"
"""The two remedies where a CPU cuts sums of int8 products off at 16 bits, see engines.saturation."""


class Memory(StrEnum):
    """How much memory a backend takes beside a graph's arrays; families keep their measurements by it."""

    LEAN = "lean"
    """Arrays are released when the last layer has read them; weights are used where they lie."""
    ROOMY = "roomy"
    """Weights are copied into a layout of the backend's own, and arrays live longer."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a graph is to be opened; see `engines.backends.open_engine`."""

    precision: str
    threads: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    cache_dir: Path | None = None
    constants: Mapping[str, Array] = field(default_factory=dict)
    device: int | None = None
    normalisation: str | None = None
    """One of the record's `normalisations`; None: the first of them."""


def _lacks_nothing() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class TritonBackend:
    """Which of the backends that Triton Inference Server has runs graphs of one of ours, by themselves.

    files: what it is given for a graph in a precision: the model, then what must lie beside that.
    """

    name: str
    files: Callable[[Path, str], tuple[Path, ...]]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Everything that the rest of the tool asks about one backend."""

    name: str  # what a user types, and what Engine.name says
    title: str  # as a person would name it
    package: str  # the distribution that it runs on
    extra: str  # of idm-deploy, which brings that
    purpose: str = ""  # in the list of packages; left out of it if there is none
    probe: Callable[[], Availability]
    """Whether it can run here; the package is not imported for it."""
    open_engine: Callable[[Path, Opening], "Engine"]
    """The graph ready to run, as the opening says, which `check` has accepted."""
    precisions: tuple[str, ...]
    """The values of `precision` that it takes; the first is the default."""
    lacks: Callable[[], Mapping[str, str]] = _lacks_nothing
    """Precisions that this machine has no arithmetic for -> why, as a clause; may import the package."""
    on_gpu: bool = False
    """Whether it runs on a GPU, and so can be told on which (`device`)."""
    takes_constants: bool = False
    """Whether values in place of a graph's own constants can be given."""
    plans_ahead: bool = False
    """Whether it runs plans that `build-engine` made, instead of opening a graph at once."""

    norm: str = INSTANCE
    """How group normalisation is written in the graphs that it runs.

    Chosen by measurement on CPUs and by belief on GPUs: docs/measurements.md, group normalisation in graphs.
    """
    int8_form: str | None = None
    """Which form of int8 graphs it runs in int8; None: none. `calibration.targets` writes them."""
    around_int8: str = "fp32"
    """The precision that it is asked for when it opens an int8 graph, and for graphs that have no int8 form.

    OpenVINO needs bfloat16 for int8 to be worth anything: docs/measurements.md, bfloat16 around int8.
    """
    around_int8_here: Callable[[], str] | None = None
    """What `around_int8` is on this machine, where that depends on it; may import the package. None: the same anywhere.

    `build-engine` measures the other precisions beside it.
    """
    normalisations: tuple[str, ...] = ()
    """The ways in which it can normalise groups, the first of them unless another is asked for; (): there is one."""
    saturating_sums: str | None = None
    """What is done where the CPU cuts its int8 sums off: UNSIGNED or REFUSE; None: it has instructions of its own."""

    carries_state: bool = False
    """Whether its engines keep the state on the device from the first step to the last, the update included."""
    fixed_sizes_pay_from: float | None = None
    """From how many evaluations of the training's size on a graph is worth compiling again for the one size it meets.

    None: never, as for TensorRT, whose plans hold many sizes and capture by themselves. The numbers come from what
    compiling takes and gains: docs/measurements.md, compiling for one size.
    """
    memory: Memory = Memory.LEAN
    triton: TritonBackend | None = None
    """Its counterpart in Triton; None: there is none."""
    small_chunks: bool = False
    """Whether chunks that fit into a CPU's cache are faster; if not, memory alone decides how large they are."""

    def __post_init__(self) -> None:
        problems = [] if self.precisions else ["it has no precision"]
        if self.norm not in NORM_FORMS:
            problems.append(f"group normalisation is written as {' or '.join(NORM_FORMS)}, found {self.norm!r}")
        if self.around_int8 not in ("fp32", *self.precisions):
            problems.append(f"around int8 it has no {self.around_int8!r}")
        if self.saturating_sums not in (None, UNSIGNED, REFUSE):
            problems.append(f"saturating sums are {UNSIGNED!r} or {REFUSE!r}, found {self.saturating_sums!r}")
        if problems:
            raise EngineError(f"The engine {self.name} cannot run a bundle's graphs: {'; '.join(problems)}.")

    def check(self, graph: Path, opening: Opening) -> None:
        """EngineError if the backend cannot do what an opening asks for."""
        check_request(self.name, opening.precision, self.precisions, opening.threads)
        if not self.on_gpu:
            refuse_device(self.name, opening.device)
        if opening.constants and not self.takes_constants:
            raise EngineError(
                f"Opening {graph}: {self.name} takes no constants in place of the graph's own. Use onnxruntime-cpu or "
                "a GPU engine of TensorRT."
            )
        if opening.normalisation not in (None, *self.normalisations):
            raise EngineError(
                f"Opening {graph}: {self.name} does not normalise {opening.normalisation!r}. It has "
                f"{' and '.join(self.normalisations) or 'one way, which has no name'}."
            )

    def precisions_here(self) -> tuple[str, ...]:
        """The precisions that this machine has the arithmetic for."""
        lacking = self.lacks()
        return tuple(precision for precision in self.precisions if precision not in lacking)

    def precision_around_int8(self) -> str:
        """`around_int8` as it is on this machine, or float32 on one that lacks it."""
        if self.around_int8 == "fp32":  # then nothing need be imported
            return self.around_int8
        if self.around_int8 in self.lacks():
            return "fp32"
        return self.around_int8 if self.around_int8_here is None else self.around_int8_here()

    def others_around_int8(self) -> tuple[str, ...]:
        """The other precisions that int8 graphs may be surrounded by here; none where the backend has one way."""
        if self.around_int8_here is None:
            return ()
        usual = self.precision_around_int8()
        return tuple(precision for precision in self.precisions_here() if precision != usual)

    def fixed_sizes_pay(self, evaluations: float) -> bool:
        """Whether so many evaluations of the training's size, at one size, are worth a graph compiled for that size.

        Decided from the work alone, never from the clock, so that the same request gives the same picture every time.
        """
        return self.fixed_sizes_pay_from is not None and evaluations >= self.fixed_sizes_pay_from


def _contiguous(feeds: Mapping[str, Array]) -> dict[str, Array]:
    # reshape: ascontiguousarray turns a 0-d array into a 1-d one
    return {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in feeds.items()}


def refuse_device(name: str, device: int | None) -> None:
    """EngineError if a backend that runs on the processor is given a GPU."""
    if device is not None:
        raise EngineError(
            f"The engine {name} runs on the processor and knows no device {device!r}. Leave the device out, or take an "
            "engine for GPUs: onnxruntime-cuda, tensorrt or tensorrt-rtx."
        )


def check_request(name: str, precision: str, precisions: tuple[str, ...], threads: int | None) -> None:
    """EngineError unless the backend `name` has this precision and the number of threads can be one."""
    if precision not in precisions:
        raise EngineError(f"The engine {name} has no precision {precision!r}. It has {', '.join(precisions)}.")
    if threads is not None and threads < 1:
        raise EngineError(f"The engine {name} cannot run on {threads} threads. Give 1 or more, or none.")


@cache
def _dtype_name(dtype: np.dtype[Any]) -> str:
    """The dtype's name, which NumPy would put together anew each time: docs/measurements.md, names of dtypes."""
    return dtype.name


def problem_of_array(array: object, spec: TensorSpec, sizes: AxisSizes) -> str:
    """What is wrong with `array` as the input or output `spec`, as the end of a sentence; empty if nothing.

    `sizes` holds the named axes met so far in this run and is added to.
    """
    if not isinstance(array, np.ndarray):
        return f"is a {type(array).__name__}; expected a numpy array of {spec.dtype}"
    if _dtype_name(array.dtype) != spec.dtype:
        return f"is {array.dtype.name}; expected {spec.dtype}. Nothing is converted in silence"
    if array.ndim != len(spec.shape):
        return f"has shape {array.shape}; expected {len(spec.shape)} axes, {spec}"
    for axis, (length, expected) in enumerate(zip(array.shape, spec.shape, strict=True)):
        if length == 0:
            return f"has shape {array.shape}; axis {axis} is empty"
        if isinstance(expected, int):
            if length != expected:
                return f"has shape {array.shape}; axis {axis} must be {expected}, {spec}"
        elif expected != ANONYMOUS:
            size, where = sizes.setdefault(expected, (length, spec.name))
            if size != length:
                return f"has {expected} = {length} (axis {axis}), but {where} has {expected} = {size}"
    return ""
