"""A recurrence around a graph: where arrays stay on the device, and callers in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.backends import BACKENDS, open_engine
from engines.contract import Step
from engines.errors import EngineError
from tests.engines.adapters.test_onnxruntime_cuda_engine import SIZES, bound_on_the_cpu
from tests.engines.graphs import lookup_feeds, lookup_results, write_lookup

Array = np.ndarray[Any, Any]

LOOKS_BACK = (0, 1, 2, 1)
"""How many earlier values each step looks at: as far as there is something to see."""


def update(earlier: int) -> bytes:
    """next = k x + kept + e1 + .. + f, where kept = y / 2."""
    axes = ["a", "b", "c", "d"]
    names = ["kept", *(f"e{at}" for at in range(1, earlier + 1)), "f"]
    nodes = [helper.make_node("Mul", ["y", "half"], ["kept"]), helper.make_node("Mul", ["x", "k"], ["sum0"])]
    for at, name in enumerate(names, start=1):
        nodes.append(helper.make_node("Add", [f"sum{at - 1}", name], ["next" if at == len(names) else f"sum{at}"]))
    arrays = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in ("x", "y", *names[1:])]
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("k", "half")]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in ("next", "kept")]
    graph = helper.make_graph(nodes, "update", [*arrays, *numbers], results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def steps(count: int = 4) -> Iterator[Step]:
    fresh = lookup_feeds()["x"] * np.float32(0.1)
    for index, earlier in enumerate(LOOKS_BACK[:count]):
        yield Step(
            feeds={"gain": np.array(0.1 * (index + 1), np.float32)},
            update=update(earlier),
            given={"k": np.array(0.5, np.float32), "half": np.array(0.5, np.float32), "f": fresh},
            earlier=earlier,
        )


def expected() -> Array:
    """The same with the formulas of both graphs in NumPy."""
    feeds = lookup_feeds()
    x, kept = feeds["x"], list[Array]()
    for step in steps():
        y = lookup_results(feeds | dict(step.feeds) | {"x": x})["features"]
        kept.insert(0, y / 2)
        x = 0.5 * x + sum(kept[: step.earlier + 1]) + step.given["f"]
    return x


@pytest.mark.parametrize("backend", [name for name, backend in BACKENDS.items() if not backend.carries_state])
def test_an_engine_without_that_way_says_so(backend: str, tmp_path: Path) -> None:
    if not (found := BACKENDS[backend].probe()).available:
        pytest.skip(f"{backend}: {found.reason}")
    refusal = pytest.raises(EngineError, match=rf"{backend} carries no value of lookup\.onnx from one run to the next")
    with open_engine(write_lookup(tmp_path), backend=backend) as engine, refusal:
        engine.follow("x", "features", lookup_feeds()["x"], steps())


@pytest.mark.parametrize("captured", [False, True])
def test_on_the_device_nothing_else_comes_out(captured: bool, tmp_path: Path) -> None:
    feeds = lookup_feeds()
    with bound_on_the_cpu(write_lookup(tmp_path), SIZES if captured else {}, captured) as engine:
        held = engine.hold({"index": feeds["index"]})
        for _ in range(2):  # what one sequence leaves behind does not reach the next
            np.testing.assert_allclose(engine.follow("x", "features", feeds["x"], steps(), held), expected(), atol=1e-5)
        rest = {name: array for name, array in feeds.items() if name != "index"}
        np.testing.assert_allclose(engine.run(rest, held)["picked"], lookup_results(feeds)["picked"], atol=2e-6)
        with pytest.raises(EngineError, match=r"Running lookup\.onnx: inputs missing gain"):
            engine.follow("x", "features", feeds["x"], [Step(feeds={}, update=update(0))], held)


def test_a_closed_engine_follows_no_more(tmp_path: Path) -> None:
    engine = bound_on_the_cpu(write_lookup(tmp_path), {}, captured=False)
    engine.close()
    with pytest.raises(EngineError, match=r"Cannot run lookup\.onnx: this engine is closed"):
        engine.follow("x", "features", lookup_feeds()["x"], steps())


@pytest.mark.parametrize("captured", [False, True])
def test_callers_in_between_change_nothing(captured: bool, tmp_path: Path) -> None:
    """Another sequence, which is stopped, and a single run with other inputs, between the steps of the first."""
    feeds, other = lookup_feeds(), lookup_feeds()
    other["index"], other["x"] = other["index"][::-1].copy(), -other["x"]
    with bound_on_the_cpu(write_lookup(tmp_path), SIZES if captured else {}, captured) as engine:
        held, of_others = (engine.hold({"index": own["index"]}) for own in (feeds, other))

        class Enough(Exception):  # noqa: N818  not an error
            """The second sequence is stopped."""

        def first_of_others() -> Iterator[Step]:
            yield next(steps())
            raise Enough

        def interrupted() -> Iterator[Step]:
            for step in steps():
                yield step
                with pytest.raises(Enough):
                    engine.follow("x", "features", other["x"], first_of_others(), of_others)
                rest = {name: array for name, array in other.items() if name != "index"}
                found = engine.run(rest, of_others)["picked"]
                np.testing.assert_allclose(found, lookup_results(other)["picked"], atol=2e-6)

        found = engine.follow("x", "features", feeds["x"], interrupted(), held)
        np.testing.assert_allclose(found, expected(), atol=1e-5)
        engine.let_go(held)
        np.testing.assert_allclose(engine.run(other)["picked"], lookup_results(other)["picked"], atol=2e-6)


def test_a_step_that_fails_on_the_device_is_an_engine_error(tmp_path: Path) -> None:
    with bound_on_the_cpu(write_lookup(tmp_path), {}, captured=False) as engine:
        held = engine.hold({"index": np.array([0, 10**12], np.int64)})
        with pytest.raises(EngineError, match=r"Running lookup\.onnx: onnxruntime-cuda failed: .*indices"):
            engine.follow("x", "features", lookup_feeds()["x"], steps(), held)
        engine.run(lookup_feeds())
