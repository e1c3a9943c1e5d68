from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import Recipe
from calibration.errors import ChoiceError, GraphError
from calibration.targets.table import TARGETS, target_named
from tests.calibration.int8_layers import OPSET, conv, in_half, recipe, stored


def with_inputs(told: Recipe, *windows: tuple[int, int]) -> Recipe:
    inputs = tuple(Quantizer(scale=0.1, lowest=low, highest=high) for low, high in windows)
    return Recipe(ranges=len(windows), layers=(replace(told.layers[0], inputs=inputs, output=None),))


@pytest.mark.parametrize("target", ["ort", "openvino"])
@pytest.mark.parametrize(
    ("windows", "told"),
    [
        (((-3, 252), (-5, 250)), r"m/Conv has the zero points \[3, 5\]"),
        (((-3, 253),), r"m/Conv has codes -3\.\.253"),
        (((-256, 0),), r"m/Conv has codes -256\.\.0"),
    ],
)
def test_zero_points_that_cannot_be_are_refused(
    tmp_path: Path, target: str, windows: tuple[tuple[int, int], ...], told: str
) -> None:
    writer, form = target_named(target).writer, target_named(target).codes
    single = conv(tmp_path)
    with pytest.raises(GraphError, match=f"one zero point for all ranges.*{told}"):
        writer(single.model, tmp_path, with_inputs(recipe(single, form), *windows))


@pytest.mark.parametrize("target", list(TARGETS))
def test_a_recipe_for_another_graph_is_refused(tmp_path: Path, target: str) -> None:
    writer, form = target_named(target).writer, target_named(target).codes
    single = conv(tmp_path)
    fitting = recipe(single, form).layers[0]
    foreign = replace(fitting, node="n/Conv")
    with pytest.raises(GraphError, match=r"n/Conv is no convolution or linear layer of this graph"):
        writer(single.model, tmp_path, Recipe(ranges=1, layers=(foreign,)))
    wide = replace(fitting, codes=np.ones((5, 6, 1, 1), dtype=np.int8))
    with pytest.raises(GraphError, match=r"weights \(5, 6, 3, 3\) and the recipe codes \(5, 6, 1, 1\)"):
        writer(single.model, tmp_path, Recipe(ranges=1, layers=(wide,)))


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ChoiceError, match="no int8 target 'onnx'; choose one of ort, openvino, tensorrt"):
        target_named("onnx")


@pytest.mark.parametrize("target", list(TARGETS))
def test_what_the_recipe_leaves_out_stays_as_it_was(tmp_path: Path, target: str) -> None:
    writer = target_named(target).writer
    single = conv(tmp_path)
    graphs = writer(single.model, tmp_path, Recipe(ranges=1, layers=()))
    assert graphs.model == single.model
    assert graphs.tensors == {} and graphs.rows == graphs.constants == ()


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_same_recipe_gives_the_same_bytes_and_shares_its_weights_by_name(tmp_path: Path, target: str) -> None:
    writer, form = target_named(target).writer, target_named(target).codes
    single = conv(tmp_path, channels=16)
    told = recipe(single, form, scales=(1.0, 2.0))
    first, second = (stored(writer(single.model, tmp_path, told), tmp_path).read_bytes() for _ in range(2))
    assert first == second
    codes = writer(single.model, tmp_path, told).tensors["m.weight.int8"]
    np.testing.assert_array_equal(codes, told.layers[0].codes)


@pytest.mark.parametrize("target", list(TARGETS))
def test_replaced_weights_are_gone_with_their_cast(tmp_path: Path, target: str) -> None:
    writer, form = target_named(target).writer, target_named(target).codes
    single = in_half(conv(tmp_path))
    model = writer(single.model, tmp_path, recipe(single, form)).model
    assert not any(node.name == "m.weight/Cast" for node in model.graph.node)
    assert "m.weight.half" not in {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize("target", list(TARGETS))
def test_an_input_read_twice_is_quantized_once(tmp_path: Path, target: str) -> None:
    writer, form = target_named(target).writer, target_named(target).codes
    single = conv(tmp_path, kernel=1, padding=(0, 0, 0, 0))
    layer = recipe(single, form).layers[0]
    nodes = [
        helper.make_node("Conv", ["x", f"{name}.weight"], [f"{name}.y"], name=f"{name}/Conv", kernel_shape=[1, 1])
        for name in "mn"
    ]
    nodes.append(helper.make_node("Add", ["m.y", "n.y"], ["y"], name="sum"))
    weights = [numpy_helper.from_array(single.weight, f"{name}.weight") for name in "mn"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 6 - k, "h", "w"]) for k, name in enumerate("xy")
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "two", ends[:1], ends[1:], weights), opset_imports=OPSET, ir_version=10
    )
    told = Recipe(ranges=1, layers=tuple(replace(layer, node=f"{name}/Conv") for name in "mn"))
    path = stored(writer(model, tmp_path, told), tmp_path)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("QuantizeLinear") == 1
