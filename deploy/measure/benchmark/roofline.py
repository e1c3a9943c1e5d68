"""How much of what a machine can multiply a denoising step uses: a large matrix product in the same precision is 1."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from deploy.bundle import Bundle
from deploy.engine.graph_files import graph_file
from deploy.engine.graphs import DENOISE, INT8, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, trial_step
from deploy.engine.turns import Contender, Timing, measure, timing_of
from deploy.measure.benchmark.settings import BenchSettings
from deploy.measure.benchmark.steps import runnable_choices
from engines.arrays import Array
from engines.backends import BACKENDS, DEFAULT_BACKEND, open_engine
from engines.contract import CONSTANT_QDQ, QLINEAR
from engines.progress import Progress

SIDE = 2048
"""Of the square matrices: 17 billion operations, and what has to be read for them is 1 % of the time or less."""

OPSET = 21


@dataclass(frozen=True, kw_only=True)
class RooflineRow:
    """Operations per second, two for each multiply-accumulate: the product's best, and those of the step's layers.

    None where the one or the other was not measured. Of an int8 step some layers stay in float.
    """

    name: str
    peak: float | None = None
    reached: float | None = None
    failure: str | None = None

    @property
    def fraction(self) -> float | None:
        """Reached of the peak."""
        return None if self.peak is None or self.reached is None else self.reached / self.peak


def time_products(
    bundle: Bundle, settings: BenchSettings, steps: Sequence[Timing], progress: Progress, side: int | None = None
) -> list[RooflineRow]:
    """One row per engine and precision that opens graphs at once; `steps` are the timings of the bundle's step.

    For the other engines a plan would have to be built first.

    side: of the matrices, SIDE if not given.
    """
    side = side or SIDE
    choices = [choice for choice in runnable_choices(bundle, settings) if not choice.record.plans_ahead]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = [Contender(choice.name, _product(choice, folder, side, stack)) for choice in choices]
        measure(contenders, settings.rounds, time.perf_counter, progress)
    operations = 2.0 * multiplications_per_step(bundle, settings) if DENOISE in bundle.manifest.graphs else None
    return roofline_rows([timing_of(contender) for contender in contenders], steps, 2.0 * side**3, operations)


def roofline_rows(
    products: Sequence[Timing], steps: Sequence[Timing], of_product: float, of_step: float | None
) -> list[RooflineRow]:
    """A row per product: its best time, against the median of the step of the same name."""
    medians = {timing.name: timing.median_ms for timing in steps if timing.times_ms}
    rows = []
    for timing in products:
        if timing.failure is not None:
            rows.append(RooflineRow(name=timing.name, failure=timing.failure))
            continue
        has_both = of_step is not None and timing.name in medians
        reached = of_step / medians[timing.name] * 1e3 if has_both and of_step is not None else None
        rows.append(RooflineRow(name=timing.name, peak=of_product / min(timing.times_ms) * 1e3, reached=reached))
    return rows


def refusal_of_roofline() -> str | None:
    """Why there is none; None where there can be one."""
    if find_spec("onnx") is None:
        return "the roofline counts a graph's operations, which needs onnx: pip install 'idm-deploy[export]'"
    return None


def multiplications_per_step(bundle: Bundle, settings: BenchSettings) -> float:
    """Multiply-accumulates of the layers of one step; products of activations with each other are not counted."""
    from calibration.observe.observer import multiplications_of

    with GraphSet(bundle, EngineChoice(threads=settings.threads)) as graphs:
        feeds = trial_step(graphs, TrialSettings(size=settings.size, batch=settings.batch)).feeds
    inputs = {tensor.name for tensor in bundle.manifest.graphs[DENOISE].inputs}
    graph = graph_file(bundle, DENOISE, BACKENDS[DEFAULT_BACKEND].norm)
    return sum(multiplications_of(graph, {n: feeds[n].shape for n in feeds if n in inputs}).values())


def _product(choice: EngineChoice, folder: Path, side: int, stack: ExitStack) -> Callable[[], object]:
    """What makes one product; its first call, which is not counted, writes and opens the graph."""
    opened: dict[str, Any] = {}

    def multiply() -> None:
        if not opened:
            form = choice.record.int8_form if choice.precision == INT8 else None
            graph = folder / f"{form or 'float'}.onnx"
            feeds = write_product(graph, form, side)
            precision = choice.precision_of_engines
            engine = open_engine(graph, backend=choice.backend, precision=precision, threads=choice.threads)
            opened.update(engine=stack.enter_context(engine), feeds=feeds)
        opened["engine"].run(opened["feeds"])

    return multiply


def write_product(path: Path, form: str | None, side: int) -> Mapping[str, Array]:
    """What to feed the graph now at `path`: a square matrix times a constant one.

    In float (None), or as the layers of int8 graphs of that form are: with codes as output, or between a pair of Q/DQ.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    element = TensorProto.UINT8 if form == QLINEAR else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operation, inputs, outputs) for operation, inputs, outputs in _operations(form)],
        "product",
        [helper.make_tensor_value_info("x", element, [side, side])],
        [helper.make_tensor_value_info("y", element, [side, side])],
        [numpy_helper.from_array(value, name) for name, value in _constants(form, side).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), path)
    codes = np.random.default_rng(1).integers(0, 128, (side, side), dtype=np.uint8)
    return {"x": codes if form == QLINEAR else codes.astype(np.float32)}


def _operations(form: str | None) -> list[tuple[str, list[str], list[str]]]:
    if form is None:
        return [("MatMul", ["x", "w"], ["y"])]
    if form == QLINEAR:
        return [("QLinearMatMul", ["x", "one", "x_zero", "w", "one", "w_zero", "y_scale", "x_zero"], ["y"])]
    return [
        ("QuantizeLinear", ["x", "one", "x_zero"], ["x_codes"]),
        ("DequantizeLinear", ["x_codes", "one", "x_zero"], ["x_back"]),
        ("DequantizeLinear", ["w", "one", "w_zero"], ["w_back"]),
        ("MatMul", ["x_back", "w_back"], ["y"]),
    ]


def _constants(form: str | None, side: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    if form is None:
        return {"w": rng.standard_normal((side, side)).astype(np.float32)}
    return {
        "w": rng.integers(-127, 128, (side, side), dtype=np.int8),
        "one": np.array(1, np.float32),
        "w_zero": np.array(0, np.int8),
        # What activations are in that form; see calibration.targets.
        "x_zero": np.array(0, np.int8 if form == CONSTANT_QDQ else np.uint8),
        # Sums of `side` products of such codes spread by about 5000 * sqrt(side): not all may saturate.
        "y_scale": np.array(40 * side**0.5, np.float32),
    }
