from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.choose.quantizer import Asymmetric
from calibration.choose.recipe import Recipe
from calibration.errors import GraphError
from calibration.targets.ort import int8_graphs
from engines.adapters.onnxruntime_engine import NAME, open_engine, probe
from engines.contract import Opening
from engines.saturation import constants_without_saturation, unsigned_constants
from tests.calibration.int8_layers import Single, by_integers, conv, linear, recipe, step_of, stored

pytestmark = pytest.mark.skipif(not probe().available, reason=probe().reason)
SCALES = (1.0, 0.55, 1.7)


def outputs(single: Single, told: Recipe, weights: str = "int8") -> list[np.ndarray]:
    """What ONNX Runtime computes in each range; with "uint8" weights as on a CPU where int8 sums would be cut off."""
    graphs = int8_graphs(single.model, single.folder, told)
    path = stored(graphs, single.folder)
    constants = unsigned_constants(path) if weights == "uint8" else constants_without_saturation(path, NAME)
    with open_engine(path, Opening(precision="fp32", threads=1, constants=constants)) as engine:
        return [
            engine.run({"x": single.x, **{rows.input: rows.row(k) for rows in graphs.rows}})["y"]
            for k in range(told.ranges)
        ]


@pytest.mark.parametrize("weights", ["int8", "uint8"])
@pytest.mark.parametrize("scales", [(1.0,), SCALES])
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kernel": 1, "padding": (0, 0, 0, 0)},
        {"stride": 2},
        {"bias": False, "channels": 16, "outputs": 32},
        {"padding": (0, 1, 2, 0)},
    ],
    ids=str,
)
def test_a_convolution_is_integer_arithmetic_to_one_step_of_its_output(
    tmp_path: Path, shape: dict, scales: tuple[float, ...], weights: str
) -> None:
    single = conv(tmp_path, **shape)
    told = recipe(single, Asymmetric(), scales=scales)
    layer = told.layers[0]
    for index, found in enumerate(outputs(single, told, weights)):
        expected = by_integers(single, told, index, coded_output=True)
        step = single.broadcast(step_of(layer.output, index) * layer.weight_scales * layer.inputs[index].scale)
        # one step where the float32 multiplier falls on the other side of a tie, else float32 rounding
        assert np.all(np.abs(found - expected) <= step * 1.001)
        assert np.mean(np.abs(found - expected) <= step * 0.001 + 1e-5) > 0.98


def test_every_channel_uses_its_own_256_codes(tmp_path: Path) -> None:
    """Channels whose ranges differ 20 times all keep the relative precision of 8 bits."""
    single = conv(tmp_path, channels=16, outputs=24)
    told = recipe(single, Asymmetric())
    error = outputs(single, told)[0] - by_integers(single, told, 0, coded_output=False)
    exact = by_integers(single, told, 0, coded_output=False)
    spread = exact.max(axis=(0, 2, 3)) - exact.min(axis=(0, 2, 3))
    assert spread.max() > 5 * spread.min()
    # rounding to a grid of 255 steps costs spread / 255 / sqrt(12); a few values beyond what float showed are clipped
    assert np.all(np.sqrt((error**2).mean(axis=(0, 2, 3))) < spread / 255 / 12**0.5 * 1.2)


@pytest.mark.parametrize("scales", [(1.0,), SCALES])
@pytest.mark.parametrize("weights", ["int8", "uint8"])
def test_a_linear_layer_has_float_outputs(tmp_path: Path, scales: tuple[float, ...], weights: str) -> None:
    single = linear(tmp_path)
    told = recipe(single, Asymmetric(), scales=scales)
    for index, found in enumerate(outputs(single, told, weights)):
        np.testing.assert_allclose(found, by_integers(single, told, index, coded_output=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [conv, linear])
@pytest.mark.parametrize("scales", [(1.0,), SCALES])
def test_corrections_are_added_in_their_range(tmp_path: Path, make: type, scales: tuple[float, ...]) -> None:
    single = make(tmp_path)
    corrections = np.arange(len(scales) * 5, dtype=np.float32).reshape(-1, 5) / 4  # exact in float16
    plain, corrected = (
        outputs(single, recipe(single, Asymmetric(), scales=scales, corrections=added)) for added in (None, corrections)
    )
    for index in range(len(scales)):
        added = np.broadcast_to(single.broadcast(corrections[index]), plain[index].shape)
        np.testing.assert_allclose(corrected[index] - plain[index], added, atol=1e-4)


def test_the_form(tmp_path: Path) -> None:
    """What makes QLinearConv fast here: constant zero points and bias; one node, weights stored once."""
    single = conv(tmp_path)
    graphs = int8_graphs(single.model, tmp_path, recipe(single, Asymmetric(), scales=SCALES))
    path = stored(graphs, tmp_path)
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    kinds = [constants[name].data_type if name in constants else None for name in node.input]
    u8, i8, i32, f32 = (getattr(onnx.TensorProto, kind) for kind in ("UINT8", "INT8", "INT32", "FLOAT"))
    assert kinds == [None, f32, u8, i8, f32, i8, None, u8, i32]
    assert [list(constants[node.input[k]].dims) for k in (1, 2, 4, 5, 7, 8)] == [[], [], [5], [], [], [5]]
    assert sum(value.nbytes for value in graphs.tensors.values() if value.dtype == np.int8) == single.weight.size
    assert "m.weight" not in constants


def test_one_range_needs_no_further_input(tmp_path: Path) -> None:
    graphs = int8_graphs(conv(tmp_path).model, tmp_path, recipe(conv(tmp_path), Asymmetric()))
    assert graphs.rows == ()
    assert [entry.name for entry in graphs.model.graph.input] == ["x"]


def test_a_convolution_without_a_window_is_refused(tmp_path: Path) -> None:
    single = conv(tmp_path)
    told = recipe(single, Asymmetric())
    bare = Recipe(ranges=1, layers=(type(told.layers[0])(**{**vars(told.layers[0]), "output": None}),))
    with pytest.raises(GraphError, match=r"1 convolutions have no output window \(first m/Conv\)"):
        int8_graphs(single.model, tmp_path, bare)
