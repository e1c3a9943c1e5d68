"""Weights stored in fp16 become the float32 weights that they stand for, and the graph computes the same."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.onnx_files.stored_weights import widen_weights
from engines.plans.half import half_model

WEIGHT = np.array([[1.0, -0.5], [2.0, 0.25]], dtype=np.float32)


def stored_model() -> onnx.ModelProto:
    """y = x @ w + half(b): w is stored in fp16 and widened, b is used in fp16 as well as widened."""
    nodes = [
        helper.make_node("Cast", ["w.half"], ["w"], name="w/Cast", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
        helper.make_node("Cast", ["b.half"], ["b"], name="b/Cast", to=TensorProto.FLOAT),
        helper.make_node("Add", ["p", "b"], ["y"], name="sum"),
        helper.make_node("Add", ["b.half", "b.half"], ["twice"], name="twice"),
    ]
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("twice", TensorProto.FLOAT16, [2]),
        ],
        initializer=[
            numpy_helper.from_array(WEIGHT.astype(np.float16), "w.half"),
            numpy_helper.from_array(np.array([3.0, 4.0], dtype=np.float16), "b.half"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_stored_weights_become_initializers_under_their_own_names() -> None:
    model = stored_model()
    widen_weights(model)
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert found.keys() == {"w", "b", "b.half"}  # the last is still read by `twice`
    assert (found["w"].dtype, found["b"].dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(found["w"], WEIGHT)
    assert [node.name for node in model.graph.node] == ["product", "sum", "twice"]
    onnx.checker.check_model(model, full_check=True)


def test_a_graph_without_stored_weights_stays_as_it_is() -> None:
    model = stored_model()
    widen_weights(model)
    before = model.SerializeToString(deterministic=True)
    widen_weights(model)
    assert model.SerializeToString(deterministic=True) == before


def test_the_fp16_form_of_a_compact_graph_has_no_casts_of_weights() -> None:
    model = stored_model()
    del model.graph.node[-1], model.graph.output[-1]
    converted = half_model(model)
    names = {tensor.name for tensor in converted.graph.initializer}
    assert not [n for n in converted.graph.node if n.op_type == "Cast" and n.input[0] in names]
    onnx.checker.check_model(converted, full_check=True)
