from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import GraphError
from calibration.observe.layers import read_graph
from calibration.observe.observer import Observer, groups_within, largest_of, smallest_of, tensor_shapes
from engines.adapters.onnxruntime_engine import probe
from tests.calibration.int8_layers import OPSET

needs_onnxruntime = pytest.mark.skipif(not probe().available, reason=probe().reason)

X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
EXAMPLE = {"x": X, "gain": np.array([2], dtype=np.float32), "shift": np.ones(1, dtype=np.float32)}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """a = gain * x, b = a with its pixels in one row (through Shape), c = b + shift, y = W c."""
    tensors = {"tail": np.array([-1], dtype=np.int64), "weight": np.ones((12, 12), dtype=np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["a"], name="a"),
        helper.make_node("Shape", ["a"], ["head"], name="head", start=0, end=2),
        helper.make_node("Concat", ["head", "tail"], ["shape"], name="shape", axis=0),
        helper.make_node("Reshape", ["a", "shape"], ["b"], name="b"),
        helper.make_node("Add", ["b", "shift"], ["c"], name="c"),
        helper.make_node("MatMul", ["c", "weight"], ["y"], name="y"),
        helper.make_node("NonZero", ["c"], ["places"], name="places"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["batch", 2, "height", "width"]), ("gain", ["one"]), ("shift", ["one"]))
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, "pixels"])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(v, k) for k, v in tensors.items()]),
        opset_imports=OPSET,
        ir_version=10,
    )
    path = tmp_path / "graph.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=100)
    return path


@needs_onnxruntime
@pytest.mark.parametrize("max_bytes", [1 << 20, 200, 1])
def test_values_are_those_of_the_graph_however_they_are_grouped(graph: Path, max_bytes: int) -> None:
    with Observer(graph, ["y", "a", "x", "c", "a"], example=EXAMPLE, max_bytes=max_bytes, threads=1) as observer:
        found = dict(observer.run(EXAMPLE))
        assert len(observer.groups) == {1 << 20: 1, 200: 2, 1: 3}[max_bytes]
    flat = 2 * X.reshape(1, 2, 12)
    expected = {"x": X, "a": 2 * X, "c": flat + 1, "y": np.repeat((flat + 1).sum(2, keepdims=True), 12, 2)}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@needs_onnxruntime
@pytest.mark.parametrize("max_bytes", [1 << 20, 1])
def test_extremes_are_those_of_each_channel(graph: Path, max_bytes: int) -> None:
    """Of a, (1, 2, 3, 4), the channels are the second axis, of y, (1, 2, 12), the last."""
    axes = {"a": 1, "y": -1}
    with Observer(graph, ["c"], example=EXAMPLE, extremes=axes, max_bytes=max_bytes, threads=1) as observer:
        found = dict(observer.run(EXAMPLE))
    sums = (2 * X.reshape(2, 12) + 1).sum(axis=1)
    assert found.pop("c").shape == (1, 2, 12)
    assert {name: values.tolist() for name, values in found.items()} == {
        smallest_of("a"): [0.0, 24.0],
        largest_of("a"): [22.0, 46.0],
        smallest_of("y"): [sums[0]] * 12,
        largest_of("y"): [sums[1]] * 12,
    }


@needs_onnxruntime
def test_another_size_than_the_examples_can_be_run(graph: Path) -> None:
    with Observer(graph, ["a"], example=EXAMPLE, threads=1) as observer:
        ((name, values),) = observer.run({**EXAMPLE, "x": X[:, :, :1]})
    assert name == "a" and values.shape == (1, 2, 1, 4)


@needs_onnxruntime
def test_nothing_is_left_beside_the_graph(graph: Path) -> None:
    """Nor was there anything for a moment, which a kill would have left: a folder's time changes with its names."""
    before = sorted(graph.parent.iterdir()), graph.parent.stat().st_mtime_ns
    Observer(graph, ["a"], example=EXAMPLE, threads=1).close()
    assert (sorted(graph.parent.iterdir()), graph.parent.stat().st_mtime_ns) == before


def test_shapes_go_through_computed_ones(graph: Path) -> None:
    shapes = tensor_shapes(read_graph(graph), {name: array.shape for name, array in EXAMPLE.items()})
    assert shapes["b"] == (1, 2, 12) and shapes["y"] == (1, 2, 12)


def test_groups_are_cut_where_the_next_tensor_would_be_too_much() -> None:
    assert groups_within(48, {"a": (2, 3), "b": (6,), "c": (1,), "d": (100,), "e": (1,)}) == [
        ["a", "b"], ["c"], ["d"], ["e"],
    ]  # fmt: skip


def test_an_unknown_tensor_is_refused(graph: Path) -> None:
    with pytest.raises(GraphError, match=r"observing .*graph\.onnx: it has no tensor 'z'"):
        Observer(graph, ["z"], example=EXAMPLE)
    with pytest.raises(GraphError, match=r"observing .*graph\.onnx: it has no tensor 'z'"):
        Observer(graph, [], example=EXAMPLE, extremes={"z": 1})


def test_a_tensor_of_unknown_size_is_refused(graph: Path) -> None:
    with pytest.raises(GraphError, match=r"the shape of places cannot be inferred"):
        Observer(graph, ["places"], example=EXAMPLE)


def test_an_incomplete_example_is_refused(graph: Path) -> None:
    with pytest.raises(GraphError, match=r"its input gain is missing from the example"):
        Observer(graph, ["a"], example={"x": X})
