"""OpenVINO on the CPU: the fastest on x86. float32, or bfloat16 arithmetic inside where the CPU has it."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines.adapters.openvino_normalisation import (
    CHANNELS_LAST,
    NORMALISATIONS,
    normalise_channels_last,
    reorders_left,
)
from engines.arrays import Array
from engines.contract import REFUSE, SCALED_QDQ, Availability, Backend, Engine, Held, Memory, Opening
from engines.errors import STRANGE_FAILURES, EngineError, OutOfMemory, failed_opening, short_words
from engines.machine.host import find_cpu
from engines.onnx_files.graph_file import GraphSignature, read_signature
from engines.packages import installed_version, is_importable

NAME = "openvino-cpu"
PRECISIONS: tuple[str, ...] = ("fp32", "bf16")
INSTALL = "pip install 'idm-deploy[openvino]'"
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""INFERENCE_PRECISION_HINT. Always given: left out, OpenVINO takes bf16 by itself where the CPU has it."""

ISAS_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA with which oneDNN has no bfloat16 kernels. OpenVINO (2026.4) asks the CPU, not oneDNN,
whether there is bf16, then refuses some graphs and crashes in others."""

ISAS_WITHOUT_FAST_BF16 = (*ISAS_WITHOUT_BF16, "AVX512_CORE", "AVX512_CORE_VNNI")
"""Those with which oneDNN has no instructions for bfloat16: it converts, and is slower than in float32."""

WITHOUT_BF16 = "this CPU has no bfloat16 arithmetic"

TINY = 8
"""Sides up to which a dynamic graph runs without fused element-wise operators. OpenVINO (2026.4) keeps what it fused
for one pixel, and computes something else, or NaN in bf16, with it once pictures are larger: a run at 4x4 pixels
spoiled all later ones."""

FAILURES = (RuntimeError, MemoryError, *STRANGE_FAILURES)
"""OpenVINO raises RuntimeError for nearly everything."""


def probe() -> Availability:
    """Whether the package is installed. Whether the CPU has bf16 only `open_engine` can tell."""
    version = installed_version("openvino")
    available = version is not None and is_importable("openvino")
    return Availability.of(NAME, version, "" if available else "the package openvino is not installed", INSTALL)


def import_openvino() -> Any:
    """The module `openvino`, or an EngineError with the line that installs it.

    Its import (2026.4) counts uses in the home directory and reports them over the network, unless the package
    openvino_telemetry is missing: for the time of the import, it is.
    """
    absent = object()
    before = sys.modules.get("openvino_telemetry", absent)
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python spells "cannot be imported"
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"The engine {NAME} cannot start ({short_words(error)}). Type {INSTALL}.") from error
    finally:
        if before is absent:
            del sys.modules["openvino_telemetry"]
        else:
            sys.modules["openvino_telemetry"] = before  # type: ignore[assignment]
    return openvino


def open_engine(graph: Path, opening: Opening) -> Engine:
    """`graph` ready to run; threads None leaves their number to OpenVINO (one per physical core).

    bf16 is refused on a CPU without it, and so are more threads than OpenVINO would use.
    """
    precision, threads = opening.precision, opening.threads
    signature = read_signature(graph).with_sizes(graph, opening.sizes)
    openvino = import_openvino()
    core = openvino.Core()
    if precision == "bf16" and not _has_bf16(core):
        raise EngineError(f"Opening {graph}: {WITHOUT_BF16}. Ask for `precision` fp32.")
    try:
        model = core.read_model(graph)
        # Dynamic axes stay so unless they were fixed: a new size then costs milliseconds, and no second weights.
        if opening.sizes:
            sizes = {spec.name: [s if isinstance(s, int) else -1 for s in spec.shape] for spec in signature.inputs}
            model.reshape(sizes)
        if (opening.normalisation or CHANNELS_LAST) == CHANNELS_LAST:
            normalise_channels_last(openvino, model)
        compiled = core.compile_model(model, "CPU", _options(precision, threads))
        used_threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        runner = _Runner(compiled, signature)
    except FAILURES as error:
        raise failed_opening(graph, NAME, error) from error
    if threads is not None and used_threads != threads:
        raise EngineError(
            f"Opening {graph}: {threads} threads were asked for, OpenVINO uses {used_threads} on this machine. "
            f"Ask for at most {used_threads}."
        )

    def unfused() -> "_Runner":
        options = {**_options(precision, threads), "SNIPPETS_MODE": "DISABLE"}
        return _Runner(core.compile_model(model, "CPU", options), signature)

    return OpenVinoEngine(graph, signature, precision, openvino, runner, None if opening.sizes else unfused)


class _Runner:
    """A compiled model with its one infer request."""

    def __init__(self, compiled: Any, signature: GraphSignature) -> None:
        self.compiled = compiled
        self.ports = [compiled.output(spec.name) for spec in signature.outputs]
        self.request = compiled.create_infer_request()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU; with AVX-512 alone it does, slower than in float32."""
    return _has_bf16(import_openvino().Core())


def computes_bf16_fast() -> bool:
    """Whether this processor has instructions for bfloat16 that OpenVINO gains from, as far as can be told unmeasured.

    Intel's AMX, and AVX-512 with BF16 on an AMD. Everything else that OpenVINO computes bfloat16 on was seen, or is
    believed, to be slower than float32: docs/measurements.md, bfloat16 around int8.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ISAS_WITHOUT_FAST_BF16:
        return False
    return has_bf16() and find_cpu().computes_bf16_fast


def lacks() -> Mapping[str, str]:
    """bf16 on a CPU without it."""
    return {} if has_bf16() else {"bf16": WITHOUT_BF16}


def _has_bf16(core: Any) -> bool:
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ISAS_WITHOUT_BF16:
        return False
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _options(precision: str, threads: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    return options


class OpenVinoEngine(Engine):
    """One compiled model with one infer request, which callers take in turns.

    A request for each caller gains nothing: a model compiled for low latency has one stream, in which requests queue.
    Two streams would serve several callers faster, and one alone slower (docs/measurements.md, several callers).
    """

    def __init__(
        self,
        graph: Path,
        signature: GraphSignature,
        precision: str,
        openvino: Any,
        runner: _Runner,
        unfused: Callable[[], _Runner] | None,
    ) -> None:
        """unfused: compiles the form for tiny pictures, when the first of them comes; None: there is no need."""
        super().__init__(NAME, precision, graph, signature)
        self._openvino = openvino
        self._runner: _Runner | None = runner
        self._unfused = unfused
        self._tiny: _Runner | None = None

    def reorders(self) -> int | None:
        """How many arrays each run copies into another order in memory."""
        return None if self._runner is None else reorders_left(self._runner.compiled)

    def _run(self, feeds: dict[str, Array], held: Held) -> dict[str, Array]:
        # On one thread, OpenVINO 2026.4 swallows an exception met while it adapts to a new shape (an allocation that
        # fails, above all) and leaves the outputs of the run before; on two or more it raises it. So each run gets
        # new, empty output tensors: one that is still empty afterwards was not computed. No measurable cost.
        fresh, arrays = {}, {**held.arrays, **feeds}
        try:
            runner = self._runner_for(arrays)
            for spec, port in zip(self.outputs, runner.ports, strict=True):
                fresh[spec.name] = self._empty_tensor(port)
                if fresh[spec.name] is not None:
                    runner.request.set_tensor(port, fresh[spec.name])
            # share_inputs: no second copy of the conditioning maps, the largest arrays there are
            results = runner.request.infer(arrays, share_inputs=True, share_outputs=True)
        except FAILURES as error:
            raise self._run_error(error) from error
        for name, tensor in fresh.items():
            if tensor is not None and tensor.size == 0:
                raise OutOfMemory(
                    f"Running {self.graph.name} on {NAME}: {name} was not computed. On one thread OpenVINO does not "
                    "say why; most often memory is short. Use smaller tiles or a smaller batch; two threads tell why."
                )
        return {spec.name: results[port] for spec, port in zip(self.outputs, runner.ports, strict=True)}

    def _runner_for(self, feeds: Mapping[str, Array]) -> _Runner:
        """The usual form; another where no dynamic side of an input, its batch aside, is longer than TINY."""
        sides = [
            side
            for spec in self.inputs
            for axis, side in zip(spec.shape, feeds[spec.name].shape, strict=True)
            if isinstance(axis, str) and axis != "batch"
        ]
        if self._unfused is None or not sides or max(sides) > TINY:
            assert self._runner is not None  # an engine that is closed does not run
            return self._runner
        if self._tiny is None:
            self._tiny = self._unfused()
        return self._tiny

    def _empty_tensor(self, port: Any) -> Any:
        """A tensor without elements for an output of dynamic shape; None for a static one, which cannot be empty."""
        if port.partial_shape.is_static:
            return None
        return self._openvino.Tensor(port.element_type, self._openvino.Shape([0] * len(port.partial_shape)))

    def _close(self) -> None:
        self._runner = self._tiny = self._unfused = None


BACKEND = Backend(
    name=NAME,
    title="OpenVINO, CPU",
    package="openvino",
    extra="openvino",
    purpose="engine, fastest on x86",
    probe=probe,
    open_engine=open_engine,
    precisions=PRECISIONS,
    lacks=lacks,
    int8_form=SCALED_QDQ,
    around_int8="bf16",
    around_int8_here=lambda: "bf16" if computes_bf16_fast() else "fp32",
    normalisations=NORMALISATIONS,
    saturating_sums=REFUSE,
    fixed_sizes_pay_from=500,
    memory=Memory.ROOMY,
    small_chunks=True,
)
