from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from calibration.choose.common_window import with_short_ratios
from calibration.choose.quantizer import Asymmetric, Form, Symmetric
from calibration.choose.recipe import Recipe
from calibration.targets.openvino import int8_graphs
from engines.adapters.onnxruntime_engine import open_engine as open_onnxruntime
from engines.adapters.openvino_engine import NAME, has_bf16, probe
from engines.adapters.openvino_engine import open_engine as open_openvino
from engines.contract import Engine, Opening
from engines.errors import EngineError
from engines.saturation import is_refused
from tests.calibration.int8_layers import Single, by_integers, conv, linear, recipe, stored
from tests.engines.openvino_listing import INT8, executed_layers

pytestmark = pytest.mark.skipif(not probe().available, reason=probe().reason)
SCALES = (1.0, 0.55, 1.7)


def graph_and_outputs(
    single: Single,
    told: Recipe,
    opener: Callable[[Path, Opening], Engine] = open_openvino,
    precision: str = "fp32",
) -> tuple[Path, list[np.ndarray]]:
    """The graph, and what the backend computes with it in each range; no answer where OpenVINO's int8 is refused."""
    if opener is not open_onnxruntime and is_refused(NAME):
        pytest.skip("this CPU cuts sums of int8 products off")
    graphs = int8_graphs(single.model, single.folder, told)
    path = stored(graphs, single.folder)
    with opener(path, Opening(precision=precision, threads=1)) as engine:
        feeds = [{rows.input: rows.row(k) for rows in graphs.rows} for k in range(told.ranges)]
        return path, [engine.run({"x": single.x, **feed})["y"] for feed in feeds]


@pytest.mark.parametrize("form", [Asymmetric(), Symmetric()], ids=str)
@pytest.mark.parametrize("scales", [(1.0,), SCALES])
@pytest.mark.parametrize(
    "shape",
    [{"channels": 16, "outputs": 32}, {"kernel": 1, "padding": (0, 0, 0, 0)}, {"stride": 2}, {"bias": False}],
    ids=str,
)
def test_a_convolution_runs_in_int8_and_is_integer_arithmetic(
    tmp_path: Path, shape: dict, scales: tuple[float, ...], form: Form
) -> None:
    single = conv(tmp_path, **shape)
    told = recipe(single, form, scales=scales)
    path, found = graph_and_outputs(single, told)
    for index, array in enumerate(found):
        expected = by_integers(single, told, index, coded_output=False)
        # exact but for float32 rounding, and for inputs within float32 rounding of a tie, which move by one code
        step = np.abs(single.weight).max() * told.layers[0].inputs[index].scale
        assert np.all(np.abs(array - expected) <= step * 1.001 + 1e-5)
        assert np.mean(np.abs(array - expected) <= 2e-5 * np.abs(expected).max()) > 0.95
    layers = executed_layers(path)
    assert sum(count for (kind, precision), count in layers.items() if kind == "Convolution" and precision in INT8) == 1
    assert not any(kind == "Convolution" and precision not in INT8 for kind, precision in layers)


@pytest.mark.parametrize("scales", [(1.0,), SCALES])
def test_a_linear_layer_is_integer_arithmetic(tmp_path: Path, scales: tuple[float, ...]) -> None:
    single = linear(tmp_path)
    told = recipe(single, Asymmetric(), scales=scales)
    for index, found in enumerate(graph_and_outputs(single, told)[1]):
        np.testing.assert_allclose(found, by_integers(single, told, index, coded_output=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [conv, linear])
@pytest.mark.parametrize("scales", [(1.0,), SCALES])
def test_corrections_are_added_in_their_range(tmp_path: Path, make: type, scales: tuple[float, ...]) -> None:
    single = make(tmp_path)
    corrections = np.arange(len(scales) * 5, dtype=np.float32).reshape(-1, 5) / 4
    plain, corrected = (
        graph_and_outputs(single, recipe(single, Asymmetric(), scales=scales, corrections=added))[1]
        for added in (None, corrections)
    )
    for index in range(len(scales)):
        added = np.broadcast_to(single.broadcast(corrections[index]), plain[index].shape)
        np.testing.assert_allclose(corrected[index] - plain[index], added, atol=1e-4)


@pytest.mark.skipif(not (probe().available and has_bf16()), reason="this CPU has no bfloat16 arithmetic")
@pytest.mark.parametrize("scale", [0.75, 1.2, 1.41])
def test_a_later_range_has_no_gain_in_bfloat16(tmp_path: Path, scale: float) -> None:
    """Against the same quantizer as the only range. Unrounded, these ratios leave 0.1 to 0.2 %; noise averages out."""
    single = conv(tmp_path, channels=32, outputs=64)
    told = recipe(single, Asymmetric(), scales=(1.0, scale))
    layer = replace(told.layers[0], inputs=with_short_ratios(told.layers[0].inputs))
    ranges = Recipe(ranges=2, layers=(layer,))
    alone = Recipe(ranges=1, layers=(replace(layer, inputs=layer.inputs[1:], output=None),))
    (expected,), (_, found) = (graph_and_outputs(single, one, precision="bf16")[1] for one in (alone, ranges))
    products, squares = (np.sum(expected.astype(np.float64) * other) for other in (found, expected))
    assert abs(products / squares - 1) < 3e-4


def test_onnx_runtime_reads_the_same_graph_alike(tmp_path: Path) -> None:
    single = conv(tmp_path)
    told = recipe(single, Asymmetric(), scales=SCALES)
    for one, other in zip(
        graph_and_outputs(single, told)[1], graph_and_outputs(single, told, open_onnxruntime)[1], strict=True
    ):
        assert np.mean(np.abs(one - other) < 1e-4) > 0.95


def test_the_form(tmp_path: Path) -> None:
    """Constant scalar scales with unsigned codes; the range moves by two inputs around the convolution."""
    single = conv(tmp_path)
    graphs = int8_graphs(single.model, tmp_path, recipe(single, Asymmetric(), scales=SCALES))
    model = onnx.load(stored(graphs, tmp_path))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    assert [list(constants[name].dims) for name in quantize.input[1:]] == [[], []]
    assert constants[quantize.input[2]].data_type == onnx.TensorProto.UINT8
    assert [node.op_type for node in model.graph.node] == [
        "Split", "Mul", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Mul", "Add",
    ]  # fmt: skip
    there, back = graphs.rows[0].row(1)
    assert there == pytest.approx(1 / 0.55) and back == pytest.approx(0.55)


def test_one_range_has_neither_inputs_nor_multipliers(tmp_path: Path) -> None:
    single = conv(tmp_path)
    graphs = int8_graphs(single.model, tmp_path, recipe(single, Asymmetric()))
    assert graphs.rows == ()
    kinds = [node.op_type for node in graphs.model.graph.node]
    assert kinds == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv"]


def test_a_graph_that_openvino_refuses_cannot_be_listed(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"Listing the layers of .*broken\.onnx: openvino-cpu refuses it"):
        executed_layers(path)
