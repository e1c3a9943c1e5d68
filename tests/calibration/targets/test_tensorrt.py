from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration.choose.quantizer import Asymmetric, Form, Shifted, Symmetric
from calibration.choose.recipe import Recipe
from calibration.errors import GraphError
from calibration.targets.editing import Int8Graphs
from calibration.targets.tensorrt import int8_graphs
from engines.adapters.onnxruntime_engine import open_engine, probe
from engines.contract import Opening
from engines.onnx_files.graph_constants import with_constants
from tests.calibration.int8_layers import Single, conv, linear, recipe, stored, stored_window

SCALES = (1.0, 0.55, 1.7)
needs_onnxruntime = pytest.mark.skipif(not probe().available, reason=probe().reason)


def outputs(single: Single, told: Recipe) -> list[np.ndarray]:
    """What ONNX Runtime computes with the constants of each range."""
    graphs = int8_graphs(single.model, single.folder, told)
    path = stored(graphs, single.folder)
    found = []
    for index in range(told.ranges):
        with open_engine(
            path, Opening(precision="fp32", threads=1, constants=constants_of_range(graphs, index))
        ) as engine:
            found.append(engine.run({"x": single.x})["y"])
    return found


def constants_of_range(graphs: Int8Graphs, index: int) -> dict[str, np.ndarray]:
    return {name: value for one in graphs.constants for name, value in one.in_range(index).items()}


def expected(single: Single, told: Recipe, index: int) -> np.ndarray:
    """The float layer on the rounded input and the rounded weights: zeros around the input stay zeros."""
    layer = told.layers[0]
    weight = layer.codes * layer.weight_scales.reshape(-1, *[1] * (layer.codes.ndim - 1)).astype(np.float64)
    quantizer = stored_window(layer.inputs[index], layer.inputs[index].shift_steps - 128)
    exact = single.exact(quantizer.round_trip(single.x), weight) + single.broadcast(single.bias)
    return exact if layer.corrections is None else exact + single.broadcast(layer.corrections[index])


@needs_onnxruntime
@pytest.mark.parametrize("form", [Symmetric(), Shifted()], ids=str)
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(conv, {}), (conv, {"padding": (0, 1, 2, 0)}), (conv, {"stride": 2, "bias": False}), (linear, {})],
    ids=lambda value: getattr(value, "__name__", str(value)),  # not the address, which differs between test processes
)
def test_a_layer_is_exact_on_rounded_inputs_and_weights(
    tmp_path: Path, make: type, shape: dict, form: Form, corrected: bool
) -> None:
    single = make(tmp_path, **shape)
    corrections = np.arange(15, dtype=np.float32).reshape(3, 5) if corrected else None
    told = recipe(single, form, scales=SCALES, corrections=corrections)
    for index, found in enumerate(outputs(single, told)):
        exact = expected(single, told, index)
        step = np.abs(single.weight).max() * told.layers[0].inputs[index].scale
        # inputs within float32 rounding of a tie may move by one code
        assert np.all(np.abs(found - exact) <= step * 1.001 + 1e-5)
        assert np.mean(np.abs(found - exact) <= 2e-5 * np.abs(exact).max()) > 0.95


@pytest.mark.parametrize("form", [Symmetric(), Shifted()], ids=str)
@pytest.mark.parametrize(("make", "axis"), [(conv, 0), (linear, 1)])
def test_the_form_keeps_the_rules_of_tensorrt(tmp_path: Path, make: type, axis: int, form: Form) -> None:
    single = make(tmp_path, outputs=5)
    graphs = int8_graphs(single.model, tmp_path, recipe(single, form, scales=SCALES))
    path = stored(graphs, tmp_path)
    for index in range(len(SCALES)):
        model = onnx.load_from_string(with_constants(path, constants_of_range(graphs, index)))
        onnx.load_external_data_for_model(model, str(tmp_path))
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert [node.op_type for node in pairs] == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear"]
        for node in pairs:
            zero = constants[node.input[2]]
            assert zero.data_type == onnx.TensorProto.INT8
            assert not onnx.numpy_helper.to_array(zero).any()
        assert [list(constants[name].dims) for name in pairs[0].input[1:]] == [[], []]
        assert list(constants[pairs[2].input[1]].dims) == [5]
        assert [a.i for a in pairs[2].attribute if a.name == "axis"] == [axis]
        assert not any(entry.name.startswith("range_") for entry in model.graph.input)


def test_a_range_costs_three_numbers_per_layer(tmp_path: Path) -> None:
    """Its scale, its shift, and the factor of the bias."""
    single = conv(tmp_path)
    made = {
        count: int8_graphs(single.model, tmp_path, recipe(single, Shifted(), scales=SCALES[:count])) for count in (2, 3)
    }
    codes = [value.size for value in made[3].tensors.values() if value.dtype == np.int8 and value.ndim == 4]
    assert codes == [270]
    sizes = [
        sum(array.nbytes for one in graphs.constants for array in one.rows.to_arrays().values())
        for graphs in made.values()
    ]
    assert sizes[1] - sizes[0] == 3 * 4
    assert made[2].model.ByteSize() == made[3].model.ByteSize()


def test_the_graph_itself_is_that_of_the_first_range(tmp_path: Path) -> None:
    single = conv(tmp_path)
    graphs = int8_graphs(single.model, tmp_path, recipe(single, Shifted(), scales=SCALES))
    first = constants_of_range(graphs, 0)
    inside = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in graphs.model.graph.initializer if tensor.raw_data
    }
    assert set(first) == {"m/Conv.scale", "m/Conv.shift", "m/Conv.bias.tensorrt"} <= set(inside)
    for name, value in first.items():
        np.testing.assert_array_equal(inside[name], value)
        assert inside[name].shape == value.shape == ((5,) if name == "m/Conv.bias.tensorrt" else ())


def test_a_layer_shifted_in_one_range_alone_is_exact_in_both(tmp_path: Path) -> None:
    single = conv(tmp_path)
    symmetric, shifted = (recipe(single, form).layers[0].inputs[0] for form in (Symmetric(), Shifted()))
    layer = replace(recipe(single, Symmetric()).layers[0], inputs=(symmetric, shifted), output=None)
    told = Recipe(ranges=2, layers=(layer,))
    for index, found in enumerate(outputs(single, told)):
        exact = expected(single, told, index)
        assert np.mean(np.abs(found - exact) <= 2e-5 * np.abs(exact).max()) > 0.95


def test_only_a_shifted_input_is_padded_outside(tmp_path: Path) -> None:
    single = conv(tmp_path)
    kinds = {
        form: [node.op_type for node in int8_graphs(single.model, tmp_path, recipe(single, form)).model.graph.node]
        for form in (Symmetric(), Shifted())
    }
    coded = ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]
    assert kinds == {Symmetric(): coded, Shifted(): ["Pad", "Sub", *coded]}


def test_unsigned_codes_are_refused(tmp_path: Path) -> None:
    single = conv(tmp_path)
    with pytest.raises(GraphError, match=r"at most 127 codes on each side .* found m/Conv \(-\d+\.\.\d+\)"):
        int8_graphs(single.model, tmp_path, recipe(single, Asymmetric()))
