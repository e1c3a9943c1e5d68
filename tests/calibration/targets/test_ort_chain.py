from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.errors import GraphError
from calibration.targets.ort_chain import chained_graph
from engines.adapters.onnxruntime_engine import NAME, open_engine, probe
from engines.contract import Opening
from engines.saturation import constants_without_saturation, int8_saturates, unsigned_constants
from tests.calibration.int8_layers import stored

pytestmark = pytest.mark.skipif(not probe().available, reason=probe().reason)

WIDTHS = (6, 16, 8)
COLOURS = 3


class Network:
    """x -> ReLU -> two hidden layers, each with a bias and a ReLU -> a float layer without either."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(5)
        self.folder = folder
        pairs = list(pairwise(WIDTHS))
        self.weights = [rng.standard_normal((o, i)).astype(np.float32) for i, o in pairs]
        self.biases = [rng.standard_normal(o).astype(np.float32) for _, o in pairs]
        self.last = rng.standard_normal((COLOURS, WIDTHS[-1])).astype(np.float32)
        self.x = rng.standard_normal((2, 3, 5, WIDTHS[0])).astype(np.float32)
        self.model = self._model()

    def activations(self) -> list[NDArray[np.float64]]:
        """What comes out of every ReLU."""
        found = [np.maximum(self.x.astype(np.float64), 0)]
        for weight, bias in zip(self.weights, self.biases, strict=True):
            found.append(np.maximum(found[-1] @ weight.T + bias, 0))
        return found

    def quantizers(self) -> list[Quantizer]:
        """Per ReLU, codes that clip what lies above nine tenths of its largest value."""
        return [Quantizer(scale=0.9 * a.max() / 255, lowest=0, highest=255) for a in self.activations()]

    def recipe(self) -> Recipe:
        layers = []
        for number, weight in enumerate(self.weights):
            scales = (np.abs(weight).max(axis=1) / 127).astype(np.float32)
            codes = np.rint(weight / scales[:, None]).astype(np.int8)
            inputs = (self.quantizers()[number],)
            layers.append(LayerRecipe(node=f"m{number}/MatMul", codes=codes, weight_scales=scales, inputs=inputs))
        return Recipe(ranges=1, layers=tuple(layers))

    def ends(self) -> dict[str, Quantizer]:
        return {"relu2": self.quantizers()[-1]}

    def by_integers(self) -> NDArray[np.float64]:
        """The network by integer arithmetic: codes of 8 bits between all hidden layers."""
        quantizers, told = self.quantizers(), self.recipe()
        codes = quantizers[0].codes(self.x).astype(np.int64)
        for number, layer in enumerate(told.layers):
            unit = layer.inputs[0].scale * layer.weight_scales.astype(np.float64)
            bias = np.rint(self.biases[number] / unit).astype(np.int64)
            accumulator = codes @ layer.codes.astype(np.int64).T + bias
            codes = np.clip(np.rint(accumulator * unit / quantizers[number + 1].scale), 0, 255).astype(np.int64)
        return codes * quantizers[-1].scale @ self.last.T.astype(np.float64)

    def _model(self) -> onnx.ModelProto:
        nodes = [helper.make_node("Relu", ["x"], ["relu0"], name="start/Relu")]
        constants = {"last.weight": self.last.T}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            constants |= {f"m{number}.weight": weight.T, f"m{number}.bias": bias}
            name = f"m{number}"
            nodes += [
                helper.make_node("MatMul", [f"relu{number}", f"{name}.weight"], [f"{name}.y"], name=f"{name}/MatMul"),
                helper.make_node("Add", [f"{name}.y", f"{name}.bias"], [f"{name}.sum"], name=f"{name}/Add"),
                helper.make_node("Relu", [f"{name}.sum"], [f"relu{number + 1}"], name=f"{name}/Relu"),
            ]
        nodes.append(helper.make_node("MatMul", ["relu2", "last.weight"], ["y"], name="last/MatMul"))
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "rows", "columns", width])
            for name, width in (("x", WIDTHS[0]), ("y", COLOURS))
        ]
        tensors = [numpy_helper.from_array(np.ascontiguousarray(v), name) for name, v in constants.items()]
        graph = helper.make_graph(nodes, "network", values[:1], values[1:], tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


def output(network: Network) -> NDArray[np.float32]:
    """What ONNX Runtime computes with the chain, as it would be run on this CPU."""
    path = stored(chained_graph(network.model, network.folder, network.recipe(), network.ends()), network.folder)
    with open_engine(
        path, Opening(precision="fp32", threads=1, constants=constants_without_saturation(path, NAME))
    ) as engine:
        return engine.run({"x": network.x})["y"]


def test_a_chain_is_integer_arithmetic_from_its_first_code_to_its_last(network: Network) -> None:
    found = output(network)
    # One code of the last ReLU where a float32 multiplier falls on the other side of a tie; elsewhere float32 rounding.
    error = np.abs(found - network.by_integers())
    step = network.quantizers()[-1].scale * np.abs(network.last).sum(axis=1)
    assert np.all(error <= step + 1e-5)
    assert np.mean(error <= 1e-4) > 0.95


def test_unsigned_weights_give_the_same_numbers_for_cpus_that_saturate(network: Network) -> None:
    if int8_saturates():
        pytest.skip("this CPU cuts sums of signed weights off")
    path = stored(chained_graph(network.model, network.folder, network.recipe(), network.ends()), network.folder)
    with (
        open_engine(path, Opening(precision="fp32", threads=1)) as signed,
        open_engine(path, Opening(precision="fp32", threads=1, constants=unsigned_constants(path))) as plus,
    ):
        assert np.array_equal(signed.run({"x": network.x})["y"], plus.run({"x": network.x})["y"])


def test_a_chain_is_close_to_the_float_network(network: Network) -> None:
    found = output(network)
    exact = np.minimum(network.activations()[-1], 255 * network.quantizers()[-1].scale) @ network.last.T
    # Three tensors of 8 bits leave far more, a wrong scale or bias far less.
    assert 10 * np.log10(np.square(exact).mean() / np.square(found - exact).mean()) > 20


def test_no_float_arithmetic_is_left_between_hidden_layers(network: Network) -> None:
    graphs = chained_graph(network.model, network.folder, network.recipe(), network.ends())
    kinds = [node.op_type for node in graphs.model.graph.node]
    assert kinds == ["QuantizeLinear", "QLinearConv", "QLinearConv", "DequantizeLinear", "MatMul"]


def other_codes(network: Network) -> Recipe:
    told = network.recipe()
    shifted = Quantizer(scale=0.1, lowest=-3, highest=252)
    return Recipe(ranges=1, layers=(replace(told.layers[0], inputs=(shifted,)), told.layers[1]))


def two_ranges(network: Network) -> Recipe:
    return Recipe(ranges=2, layers=tuple(replace(one, inputs=one.inputs * 2) for one in network.recipe().layers))


def equalised(network: Network) -> Recipe:
    told = network.recipe()
    return Recipe(ranges=1, layers=(replace(told.layers[0], factors=np.ones(WIDTHS[0], np.float32)), told.layers[1]))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (equalised, "m0/MatMul has inputs that are equalised"),
        (other_codes, r"relu0 has the codes -3\.\.252, which do not begin at 0"),
        (two_ranges, "2 timestep ranges, where a chain has one"),
        (lambda network: Recipe(ranges=1, layers=network.recipe().layers[:1]), "relu1 leaves the chain without"),
    ],
)
def test_what_is_no_chain_is_refused(network: Network, told: Callable[[Network], Recipe], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        chained_graph(network.model, network.folder, told(network), network.ends())


def test_codes_that_are_read_in_float_too_are_refused(network: Network) -> None:
    network.model.graph.node.append(helper.make_node("Abs", ["relu1"], ["z"], name="z/Abs"))
    with pytest.raises(GraphError, match="relu1 is also read in float"):
        chained_graph(network.model, network.folder, network.recipe(), network.ends())


def test_a_layer_without_its_activation_is_refused(network: Network) -> None:
    network.model.graph.node[3].op_type = "Abs"
    with pytest.raises(GraphError, match=r"m0/MatMul must be followed by a bias and a ReLU alone, found Abs"):
        chained_graph(network.model, network.folder, network.recipe(), network.ends())


def test_an_input_that_no_relu_made_is_refused(network: Network) -> None:
    network.model.graph.node[0].op_type = "Abs"
    with pytest.raises(GraphError, match="relu0 is not made by a ReLU"):
        chained_graph(network.model, network.folder, network.recipe(), network.ends())


@pytest.mark.parametrize("tiny", [1e-4, 1e-10, 1e-20])
def test_a_nearly_dead_channel_keeps_its_bias(network: Network, tiny: float) -> None:
    """In units of such weights the bias would not fit the 32 bits of the accumulator."""
    network.weights[0][3] *= tiny
    network.biases[0][3] = 0.75
    network.model = network._model()
    found = output(network)
    exact = np.minimum(network.activations()[-1], 255 * network.quantizers()[-1].scale) @ network.last.T
    assert 10 * np.log10(np.square(exact).mean() / np.square(found - exact).mean()) > 20
