"""A recurrence around a graph: by hand, as an ONNX model, on every backend, and where arrays stay on the device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engines.adapters.onnxruntime_engine import import_onnxruntime
from engines.backends import BACKENDS, open_engine
from engines.errors import EngineError
from engines.recurrence import Step, next_input, update_graph
from tests.engines.adapters.test_onnxruntime_cuda_engine import SIZES, bound_on_the_cpu
from tests.engines.graphs import lookup_feeds, lookup_results, write_lookup

Array = np.ndarray[Any, Any]

SHARES = [(0.7,), (0.5, 0.2), (0.6, 0.1, -0.3), (0.4, 0.0, 0.25)]
"""As a solver of third order has them: it looks back as far as there is something to see."""


def test_by_hand() -> None:
    """The example of the module's docstring, then a step that looks back: 0.5 * 1 + 1 * 0.5 + 2 * 1 + 0.25."""
    estimates: list[Array] = []
    first = Step(feeds={}, input_share=2.0, output_share=-1.0, bounds=(-1, 1), keep=0.5, estimate_shares=(0.5,))
    x, y = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 0.5, np.float32)
    assert next_input(first, x, y, estimates).item() == 1.0
    second = Step(
        feeds={}, input_share=1.0, output_share=-1.0, keep=0.5, estimate_shares=(1.0, 2.0), fresh=np.float32(0.25)
    )
    assert next_input(second, x, y, estimates).item() == 3.25


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_update_as_a_model_is_a_valid_one_that_computes_the_same(count: int, fresh: bool) -> None:
    model = update_graph(count, fresh=fresh)
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    random = np.random.default_rng(count)
    x, y, f, *older = random.standard_normal((3 + count, 2, 3, 4, 5)).astype(np.float32)
    step = Step(
        feeds={},
        input_share=1.5,
        output_share=-0.5,
        bounds=(-1.0, 1.0),
        keep=0.3,
        estimate_shares=SHARES[count - 1],
        fresh=f if fresh else None,
    )
    estimates = list(older[: count - 1])
    feeds = {"x": x, "y": y, **{f"e{at}": array for at, array in enumerate(estimates, start=1)}}
    feeds |= {name: np.asarray(value) for name, value in step.scalars.items()}
    session = import_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    found, estimate = session.run(["next", "estimate"], feeds | ({"f": f} if fresh else {}))
    np.testing.assert_allclose(found, next_input(step, x, y, estimates), atol=1e-6)
    np.testing.assert_allclose(estimate, estimates[0], atol=1e-6)


def steps(count: int = 4) -> Iterator[Step]:
    feeds = lookup_feeds()
    for index in range(count):
        yield Step(
            feeds={"gain": np.array(0.1 * (index + 1), np.float32)},
            input_share=1.2,
            output_share=-0.3,
            bounds=(-1.0, 1.0),
            keep=0.5,
            estimate_shares=SHARES[index],
            fresh=feeds["x"] * np.float32(0.1) if index % 2 else None,
        )


def expected() -> Array:
    """The same with the graph's formula in NumPy."""
    feeds = lookup_feeds()
    x, estimates = feeds["x"], list[Array]()
    for step in steps():
        y = lookup_results(feeds | dict(step.feeds) | {"x": x})["features"]
        x = next_input(step, x, y, estimates)
    return x


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_follows(backend: str, tmp_path: Path) -> None:
    if not (found := BACKENDS[backend].probe()).available:
        pytest.skip(f"{backend}: {found.reason}")
    feeds = lookup_feeds()
    begin = feeds["x"].copy()
    with open_engine(write_lookup(tmp_path), backend=backend) as engine:
        held = engine.hold({"index": feeds["index"]})
        np.testing.assert_allclose(engine.follow("x", "features", begin, steps(), held), expected(), atol=1e-5)
    np.testing.assert_array_equal(begin, feeds["x"])


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
            engine.follow("x", "features", feeds["x"], [Step(feeds={}, input_share=1.0, output_share=1.0)], held)


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
