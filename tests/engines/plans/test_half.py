"""The fp16 form of a graph: close to float32, float32 where it matters, refusing what fp16 cannot hold.

Tolerance: fp16 has 11 bits, so one rounding costs about 2^-11 relative, 66 dB; a graph of a few layers keeps above
50 dB.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.backends import open_engine
from engines.errors import EngineError
from engines.plans.half import half_model, half_weights, write_half_graph
from tests.engines.graphs import lookup_feeds, lookup_results, write_lookup
from tests.engines.quantized_graphs import write_quantized

RNG = np.random.default_rng(0)


def small_model(gain: float = 1.0) -> onnx.ModelProto:
    """Convolution, normalisation, SiLU, a gather along rows, a matrix product with softmax, one output."""
    weights = {
        "conv.weight": (RNG.standard_normal((8, 4, 3, 3)) * gain / 6).astype(np.float32),
        "conv.bias": RNG.standard_normal(8).astype(np.float32),
        "norm.weight": np.ones(8, dtype=np.float32),
        "norm.bias": np.zeros(8, dtype=np.float32),
        "shape": np.array([0, 8, -1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("GroupNormalization", ["c", "norm.weight", "norm.bias"], ["n"], name="norm", num_groups=2),
        helper.make_node("Sigmoid", ["n"], ["s"], name="sigmoid"),
        helper.make_node("Mul", ["n", "s"], ["a"], name="silu"),
        helper.make_node("Gather", ["a", "rows"], ["g"], name="rows", axis=2),
        helper.make_node("Reshape", ["g", "shape"], ["f"], name="flat"),
        helper.make_node("Softmax", ["f"], ["p"], name="softmax", axis=-1),
        helper.make_node("Add", ["f", "p"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, "height", "width"]),
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["rows"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8, "pixels"])],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def feeds() -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {
        "x": np.random.default_rng(1).standard_normal((2, 4, 6, 5)).astype(np.float32),
        "rows": np.array([0, 0, 3, 5], dtype=np.int64),
    }


def test_the_half_graph_computes_nearly_the_same(tmp_path: Path) -> None:
    onnx.save(small_model(), tmp_path / "float.onnx")
    write_half_graph(tmp_path / "float.onnx", tmp_path / "half.onnx")
    answers = []
    for name in ("float", "half"):
        with open_engine(tmp_path / f"{name}.onnx", threads=1) as engine:
            answers.append(engine.run(feeds())["y"])
    assert answers[1].dtype == np.float32
    error = np.mean((answers[1] - answers[0]) ** 2) / np.mean(answers[0] ** 2)
    assert 1e-10 < error < 1e-5  # it did round, and above 50 dB


def test_types_are_half_but_for_inputs_outputs_and_softmax() -> None:
    model = onnx.shape_inference.infer_shapes(half_model(small_model()), check_type=True, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert kinds["c"] == kinds["n"] == kinds["g"] == TensorProto.FLOAT16
    assert kinds["p"] == TensorProto.FLOAT
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert stored["conv.weight.half"] == TensorProto.FLOAT16
    assert stored["shape"] == TensorProto.INT64
    assert "conv.weight" not in stored


def test_the_result_passes_the_checker() -> None:
    onnx.checker.check_model(half_model(small_model()), full_check=True)


def test_weights_beyond_the_range_are_refused() -> None:
    with pytest.raises(EngineError, match=r"conv\.weight holds 70000, beyond fp16's 65504"):
        half_weights("conv.weight", np.array([1.0, -7e4], dtype=np.float32))


def test_weights_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(EngineError, match="beyond fp16"):
        half_weights("w", np.array([np.nan], dtype=np.float32))


def test_the_source_is_left_as_it_was() -> None:
    model = small_model()
    before = model.SerializeToString()
    half_model(model)
    assert model.SerializeToString() == before


def test_an_output_that_is_read_inside_as_well(tmp_path: Path) -> None:
    graph = write_lookup(tmp_path)
    write_half_graph(graph, tmp_path / "half.onnx")
    onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx"), check_type=True, strict_mode=True)
    feeds = lookup_feeds()
    with open_engine(tmp_path / "half.onnx", threads=1) as engine:
        results = engine.run(feeds)
    for name, expected in lookup_results(feeds).items():
        np.testing.assert_allclose(results[name], expected, atol=5e-3)  # fp16 rounds values of order one by 5e-4


def test_quantized_graphs_keep_their_codes(tmp_path: Path) -> None:
    write_quantized(tmp_path / "float.onnx", kind=np.float32)
    model = half_model(onnx.load(tmp_path / "float.onnx"))
    onnx.checker.check_model(model, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["weight"] == kinds["matrix"] == TensorProto.INT8
    assert kinds["scale.half"] == kinds["weight_scale.half"] == TensorProto.FLOAT16
