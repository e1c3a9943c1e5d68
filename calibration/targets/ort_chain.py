"""Int8 for ONNX Runtime where linear layers follow one another through ReLU: codes from one to the next.

A linear layer alone becomes MatMulIntegerToFloat, whose float outputs then pass a bias, a ReLU and a QuantizeLinear.
In a chain the layer can make the next one's codes itself. com.microsoft's QLinearConv with `channels_last` is a matrix
product over (.., pixels, features) with a bias and quantized outputs, and as the next layer's codes begin at 0,

    code = clip(round((sum c w + b) * s w_s / s_next), 0, 255)

is its ReLU too. Example: s_next = 0.02; an output of 1.234 becomes 62, one of -0.3 becomes 0.

Its kernel has the output channels first, a MatMul's matrix last. So a chain does not share the int8 weights that all
other layers share between targets: its own, transposed, are stored beside them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.errors import GraphError
from calibration.observe.layers import Layer, constant_of, layers_of
from calibration.targets.editing import Editor, Int8Graphs, check_fit


def chained_graph(model: ModelProto, folder: Path, recipe: Recipe, ends: Mapping[str, Quantizer]) -> Int8Graphs:
    """The graph with every layer of the recipe as a link of a chain.

    ends: the quantizers of the ReLU outputs that leave a chain, by tensor; they become float again. `folder` is where
    the float graph's weights file lies.
    """
    chain = _Chain(model, folder, recipe, ends)
    editor = Editor(recipe.ranges)
    for node in model.graph.node:
        chain.emit(editor, node)
    return editor.finish(model)


LARGEST_BIAS: Final = 2**30
"""In units of the accumulator, of 32 bits: the products need the rest."""


class _Chain:
    """What each node of the float graph becomes."""

    def __init__(self, model: ModelProto, folder: Path, recipe: Recipe, ends: Mapping[str, Quantizer]) -> None:
        self._model = model
        self._folder = folder
        self._layers = {layer.node: layer for layer in layers_of(model)}
        check_fit(recipe, self._layers)
        self._recipes = recipe.by_node
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._ends = ends
        self._coded = dict(ends) | {self._layers[entry.node].input: entry.inputs[0] for entry in recipe.layers}
        """Every ReLU output that exists as codes, and how it is coded."""
        self._outputs = {entry.node: self._activation(entry.node) for entry in recipe.layers}
        """Per layer, the Add of its bias and the ReLU after it."""
        self._absorbed = {id(node) for pair in self._outputs.values() for node in pair}
        problems = [*self._problems(recipe)]
        if problems:
            raise GraphError(f"writing a chain of int8 layers: {'; '.join(problems)}. Leave these layers in float.")

    def emit(self, editor: Editor, node: NodeProto) -> None:
        """The node, or what stands in its place."""
        if node.name in self._recipes:
            self._link(editor, node)
        elif node.op_type == "Relu" and node.output[0] in self._coded and id(node) not in self._absorbed:
            # Codes begin at 0, so coding what the ReLU reads is the ReLU.
            tensor = node.output[0]
            codes = [node.input[0], self._scale(editor, tensor), _zero(editor)]
            editor.node("QuantizeLinear", codes, f"{node.name}.codes", output=_codes(tensor))
        elif id(node) not in self._absorbed:
            editor.nodes.append(node)

    def _link(self, editor: Editor, node: NodeProto) -> None:
        layer_recipe, layer = self._recipes[node.name], self._layers[node.name]
        added, relu = self._outputs[node.name]
        tensor = relu.output[0]
        codes, scales, bias = self._in_accumulator_units(layer, layer_recipe, added)
        inputs = [
            _codes(layer.input),
            self._scale(editor, layer.input),
            _zero(editor),
            editor.constant(codes[:, :, None, None], f"{layer.weight}.int8.kernel"),
            editor.constant(scales, f"{layer.weight}.int8.kernel.scales"),
            editor.constant(np.array(0, dtype=np.int8), "zero_point.weights.int8"),
            self._scale(editor, tensor),
            _zero(editor),
            editor.constant(bias, f"{layer.weight}.bias.int32"),
        ]
        editor.node(
            "QLinearConv",
            inputs,
            f"{node.name}.int8",
            output=_codes(tensor),
            domain="com.microsoft",
            channels_last=1,
            kernel_shape=[1, 1],
        )
        if tensor in self._ends:
            back = [_codes(tensor), self._scale(editor, tensor), _zero(editor)]
            editor.node("DequantizeLinear", back, f"{relu.name}.restored", output=tensor)

    def _in_accumulator_units(
        self, layer: Layer, recipe: LayerRecipe, added: NodeProto
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int32]]:
        """Codes and scales of the weights, and the bias as a multiple of the products' unit.

        A channel whose weights are next to nothing has so small a unit that its bias would not fit 32 bits: there the
        scale grows until it does, and the codes shrink, often to 0.
        """
        name = next(tensor for tensor in added.input if tensor != layer.output)
        bias = constant_of(self._model, self._folder, name).astype(np.float64).reshape(-1)
        x = recipe.inputs[0].scale
        least = np.abs(bias) / (x * LARGEST_BIAS)
        scales = np.maximum(recipe.weight_scales, least.astype(np.float32))
        codes = np.rint(recipe.codes * (recipe.weight_scales / scales)[:, None]).astype(np.int8)
        return codes, scales, np.rint(bias / (x * scales.astype(np.float64))).astype(np.int32)

    def _scale(self, editor: Editor, tensor: str) -> str:
        scale = np.array(self._coded[tensor].scale, dtype=np.float32)
        return editor.constant(scale, f"scale.{scale!s}")

    def _activation(self, node: str) -> tuple[NodeProto, NodeProto]:
        """The bias and the ReLU that alone read a layer's output, one after the other."""
        pair: list[NodeProto] = []
        tensor = self._layers[node].output
        for kind in ("Add", "Relu"):
            readers = self._readers.get(tensor, [])
            if len(readers) != 1 or readers[0].op_type != kind:
                raise GraphError(
                    f"writing a chain of int8 layers: {node} must be followed by a bias and a ReLU alone, found"
                    f" {', '.join(reader.op_type for reader in readers) or 'nothing'} after {tensor}. Leave it in"
                    " float."
                )
            pair.append(readers[0])
            tensor = readers[0].output[0]
        return pair[0], pair[1]

    def _problems(self, recipe: Recipe) -> Iterator[str]:
        if recipe.ranges != 1:
            yield f"{recipe.ranges} timestep ranges, where a chain has one"
        for layer in recipe.layers:
            if layer.factors is not None:
                yield f"{layer.node} has inputs that are equalised, for which codes of a chain have no place"
        after_relu = {node.output[0] for node in self._model.graph.node if node.op_type == "Relu"}
        for tensor, quantizer in self._coded.items():
            if tensor not in after_relu:
                yield f"{tensor} is not made by a ReLU"
            if quantizer.lowest != 0:
                yield f"{tensor} has the codes {quantizer.lowest}..{quantizer.highest}, which do not begin at 0"
            inside = [reader for reader in self._readers.get(tensor, []) if reader.name in self._recipes]
            if len(inside) < len(self._readers.get(tensor, [])) and tensor not in self._ends:
                yield f"{tensor} is also read in float"
        for _, relu in self._outputs.values():
            if relu.output[0] not in self._coded:
                yield f"{relu.output[0]} leaves the chain without a quantizer"


def _codes(tensor: str) -> str:
    return f"{tensor}.codes"


def _zero(editor: Editor) -> str:
    return editor.constant(np.array(0, dtype=np.uint8), "zero_point.0")
