from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import GraphError
from calibration.observe.covariance import Geometry
from calibration.observe.layers import bias_of, constant_of, layers_of, take_external, weights_of
from tests.calibration.int8_layers import conv, in_half, linear


def test_a_convolution_is_described(tmp_path: Path) -> None:
    single = conv(tmp_path, stride=2, padding=(0, 1, 2, 0))
    (layer,) = layers_of(single.model)
    assert (layer.node, layer.module, layer.kind) == ("m/Conv", "m", "Conv")
    assert (layer.input, layer.output, layer.weight, layer.bias) == ("x", "y", "m.weight", "m.bias")
    assert layer.weight_shape == (5, 6, 3, 3) and layer.channel_axis == 1 and layer.padded
    assert layer.geometry == Geometry(channels=6, kernel=(3, 3), stride=(2, 2), padding=(0, 1, 2, 0))
    np.testing.assert_array_equal(weights_of(single.model, tmp_path, layer), single.weight)
    np.testing.assert_array_equal(bias_of(single.model, tmp_path, layer), single.bias)


def test_a_linear_layer_is_described_output_first(tmp_path: Path) -> None:
    single = linear(tmp_path)
    (layer,) = layers_of(single.model)
    assert layer.weight_shape == (5, 12) and layer.channel_axis == -1 and not layer.padded
    np.testing.assert_array_equal(weights_of(single.model, tmp_path, layer), single.weight)
    np.testing.assert_array_equal(bias_of(single.model, tmp_path, layer), np.zeros(5))


def test_products_of_two_activations_are_no_layers() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "abc"]
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"], name="n/MatMul")]
    assert layers_of(helper.make_model(helper.make_graph(nodes, "g", values[:2], values[2:]))) == []


def test_a_missing_constant_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"reading other from .*: the graph has no constant"):
        constant_of(conv(tmp_path).model, tmp_path, "other")


def test_external_weights_can_move_to_another_file(tmp_path: Path) -> None:
    single = conv(tmp_path)
    arrays = take_external(single.model, tmp_path)
    assert set(arrays) == {"m.weight", "m.bias"} and not single.model.graph.initializer
    np.testing.assert_array_equal(arrays["m.weight"], single.weight)
    single.model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in arrays.items())
    onnx.checker.check_model(single.model)


def test_weights_stored_in_half_precision_are_read_through_their_cast(tmp_path: Path) -> None:
    single = in_half(conv(tmp_path))
    (layer,) = layers_of(single.model)
    assert (layer.weight, layer.bias, layer.weight_shape) == ("m.weight", "m.bias", (5, 6, 3, 3))
    found = weights_of(single.model, tmp_path, layer)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, single.weight.astype(np.float16))
    np.testing.assert_array_equal(bias_of(single.model, tmp_path, layer), single.bias.astype(np.float16))
