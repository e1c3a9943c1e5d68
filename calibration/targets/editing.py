"""A float graph being rewritten: layers replaced node by node, everything else left as it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.errors import GraphError
from calibration.observe.layers import LINEAR, Layer, layers_of
from calibration.targets.range_rows import CHANNELS, NUMBERS, RangeConstants, RangeRows, RowWriter
from engines.arrays import Array

SMALL = 64
"""Arrays of at most this many bytes stay inside the graph file."""


@dataclass(frozen=True, kw_only=True)
class Int8Graphs:
    """What one target needs: a graph, its large tensors, and what changes with the timestep range.

    model: its float weights are still those of the float graph's weights file; `tensors` (int8 weights above all) have
    no initializer yet: store them once, under the same names for all targets, and add initializers that point there.
    rows: further inputs. constants: initializers, in the model with their values in range 0.
    """

    model: ModelProto
    tensors: dict[str, Array]
    rows: tuple[RangeRows, ...] = ()
    constants: tuple[RangeConstants, ...] = ()


Replace = Callable[["Editor", NodeProto, Layer, LayerRecipe], None]
"""Emits what stands in for one node, ending in a tensor of the node's output name."""


class Editor:
    """Nodes and constants of the new graph. Values that differ between ranges become inputs, others constants.

    constant_ranges: those that differ become initializers as well, one set of values per range.
    """

    def __init__(self, ranges: int, *, constant_ranges: bool = False) -> None:
        self.ranges = ranges
        self.constant_ranges = constant_ranges
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, Array] = {}
        self.domains: set[str] = set()
        self._small: dict[str, TensorProto] = {}
        self._done: dict[Any, str] = {}
        self._writers = {name: RowWriter(name, ranges) for name in (NUMBERS, CHANNELS)}

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        name: str,
        *,
        output: str | None = None,
        domain: str = "",
        like: NodeProto | None = None,
        **attributes: Any,
    ) -> str:
        """Adds a node and returns its output, called after it unless named. `like` lends its attributes."""
        node = helper.make_node(kind, list(inputs), [output or f"{name}.out"], name=name, domain=domain, **attributes)
        if like is not None:
            node.attribute.extend(a for a in like.attribute if a.name not in attributes)
        self.nodes.append(node)
        self.domains.add(domain)
        return str(node.output[0])

    def once(self, key: Any, make: Callable[[], str]) -> str:
        """What `make` returned for this key the first time."""
        if key not in self._done:
            self._done[key] = make()
        return self._done[key]

    def constant(self, value: Array, name: str) -> str:
        """An initializer: inside the graph if it is small, else one of `tensors`."""
        if value.nbytes > SMALL:
            self.tensors.setdefault(name, value)
        elif name not in self._small:
            self._small[name] = numpy_helper.from_array(value, name)  # keeps 0-d arrays 0-d
        return name

    def number(self, values: NDArray[np.floating], name: str) -> str:
        """Adds a number per range and returns its tensor: a 0-d constant if it never changes, else of shape (1,)."""
        if (values == values[0]).all():
            return self.constant(np.asarray(values[0], dtype=np.float32).reshape(()), name)
        return self._writers[NUMBERS].add(name, values)

    def channels(
        self,
        factors: NDArray[np.floating],
        name: str,
        *,
        slopes: NDArray[np.float32],
        constants: NDArray[np.float32] | None = None,
        corrections: NDArray[np.float32] | None = None,
        linear: bool = False,
    ) -> str:
        """constants + factor * slopes + corrections per channel, (1, O, 1, 1), or (O,) if linear or an initializer."""
        flat = linear or self.constant_ranges
        one_row = self.ranges == 1 or (corrections is None and (factors == factors[0]).all())
        if one_row:
            value = factors[0] * slopes.astype(np.float64)
            for part in (constants, None if corrections is None else corrections[0]):
                value = value if part is None else value + part
            return self.constant(value.astype(np.float32).reshape((-1,) if flat else (1, -1, 1, 1)), name)
        one_by_one = linear and not self.constant_ranges  # the input of numbers holds these vectors too
        return self._writers[NUMBERS if one_by_one else CHANNELS].add(name, factors, slopes, constants, corrections)

    def finish(self, model: ModelProto) -> Int8Graphs:
        """The new model with all that belongs to it."""
        made = ModelProto()
        made.CopyFrom(model)
        if self.constant_ranges:
            constants = self._constants_of_ranges()
            self._replace_nodes(made, self.nodes)
            return Int8Graphs(model=made, tensors=self.tensors, constants=constants)
        rows, heads = self._rows_as_inputs(made)
        self._replace_nodes(made, [*heads, *self.nodes])
        return Int8Graphs(model=made, tensors=self.tensors, rows=rows)

    def _constants_of_ranges(self) -> tuple[RangeConstants, ...]:
        """What differs between ranges, now initializers with their values in range 0."""
        constants = []
        for writer in self._writers.values():
            if writer.names:
                of_writer = RangeConstants(names=tuple(writer.names), rows=writer.rows())
                self._small |= {
                    key: numpy_helper.from_array(value, key) for key, value in of_writer.in_range(0).items()
                }
                constants.append(of_writer)
        return tuple(constants)

    def _rows_as_inputs(self, made: ModelProto) -> tuple[tuple[RangeRows, ...], list[NodeProto]]:
        """What differs between ranges, now inputs of the model, and the nodes that split them."""
        rows = []
        heads: list[NodeProto] = []
        for name, writer in self._writers.items():
            if not writer.names:
                continue
            wide = name == CHANNELS
            row = writer.rows(leading=(1,) if wide else (), trailing=(1, 1) if wide else ())
            rows.append(row)
            made.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, row.shape))
            sizes = f"{name}.sizes"
            self._small[sizes] = numpy_helper.from_array(row.sizes, sizes)
            heads.append(
                helper.make_node("Split", [name, sizes], writer.names, name=f"{name}/Split", axis=1 if wide else 0)
            )
        return tuple(rows), heads

    def _replace_nodes(self, made: ModelProto, wanted: Sequence[NodeProto]) -> None:
        names = {entry.name for entry in made.graph.output}
        nodes = []
        for node in reversed(wanted):  # without what no output needs: Casts of weights replaced
            if names & set(node.output):
                nodes.append(node)
                names |= set(node.input)
        del made.graph.node[:]
        made.graph.node.extend(nodes[::-1])
        tensors = [tensor for tensor in made.graph.initializer if tensor.name in names]
        del made.graph.initializer[:]
        made.graph.initializer.extend([*tensors, *self._small.values()])
        for domain in sorted(self.domains - {entry.domain for entry in made.opset_import}):
            made.opset_import.append(helper.make_opsetid(domain, 1))


def rewritten(model: ModelProto, recipe: Recipe, editor: Editor, replace: Replace) -> None:
    """Every node of the model goes to the editor, those of the recipe through `replace`."""
    layers = {layer.node: layer for layer in layers_of(model)}
    check_fit(recipe, layers)
    recipes = recipe.by_node
    for node in model.graph.node:
        if node.name in recipes:
            replace(editor, node, layers[node.name], recipes[node.name])
        else:
            editor.nodes.append(node)


def check_fit(recipe: Recipe, layers: dict[str, Layer]) -> None:
    """GraphError unless every layer of the recipe is one of the graph, with weights of the same shape."""
    problems = []
    for layer in recipe.layers:
        layer_of_graph = layers.get(layer.node)
        if layer_of_graph is None:
            problems.append(f"{layer.node} is no convolution or linear layer of this graph")
        elif layer.codes.shape != layer_of_graph.weight_shape:
            problems.append(
                f"{layer.node} has weights {layer_of_graph.weight_shape} and the recipe codes {layer.codes.shape}"
            )
    if problems:
        raise GraphError(f"writing an int8 graph: {'; '.join(problems)}. Calibrate this graph again.")


def check_zero_points(recipe: Recipe) -> None:
    """GraphError unless the input of every layer has one zero point in all ranges that fits unsigned codes."""
    problems = []
    for layer in recipe.layers:
        lowest = sorted({quantizer.lowest for quantizer in layer.inputs})
        if len(lowest) > 1:
            problems.append(f"{layer.node} has the zero points {[-code for code in reversed(lowest)]}")
        elif lowest[0] < -255 or any(q.highest - q.lowest > 255 for q in layer.inputs):
            problems.append(f"{layer.node} has codes {layer.inputs[0].lowest}..{layer.inputs[0].highest}")
    if problems:
        raise GraphError(
            "writing an int8 graph: one zero point for all ranges, from 0 to 255, and at most 256 codes were expected;"
            f" {'; '.join(problems)}. Choose the windows of a layer's ranges together."
        )


def input_of(editor: Editor, layer: Layer, recipe: LayerRecipe) -> str:
    """What is to be coded: the layer's input, its channels multiplied by the recipe's factors if it has any."""
    factors = recipe.factors
    if factors is None:
        return layer.input

    def multiply() -> str:
        shaped = factors if layer.kind == LINEAR else factors.reshape(1, -1, 1, 1)
        constant = editor.constant(shaped, f"{layer.input}.factors")
        return editor.node("Mul", [layer.input, constant], f"{layer.input}.equalised")

    return editor.once(("equalised", layer.input), multiply)


def int8_weights(editor: Editor, layer: Layer, recipe: LayerRecipe) -> str:
    """The int8 weights in the layout of the graph, under a name that all targets share."""
    codes = np.ascontiguousarray(recipe.codes.T) if layer.kind == LINEAR else recipe.codes
    return editor.constant(codes, f"{layer.weight}.int8")


def quantize_dequantize(editor: Editor, x: str, scale: str, zero_point: NDArray[Any], name: str) -> str:
    """x as 8-bit codes and back; scale: name of a constant. It and the zero point are 0-d: TensorRT leaves a
    convolution in float otherwise."""
    zero_name = editor.constant(zero_point.reshape(()), f"zero_point.{zero_point.dtype.name}.{int(zero_point)}")
    codes = editor.node("QuantizeLinear", [x, scale, zero_name], f"{name}.quantized")
    return editor.node("DequantizeLinear", [codes, scale, zero_name], f"{name}.dequantized")


def dequantized_weights(editor: Editor, layer: Layer, recipe: LayerRecipe) -> str:
    """The float weights out of the int8 ones: one scale per output channel, axis 0 of Conv, axis 1 of MatMul."""
    zeros = editor.constant(np.zeros(layer.outputs, dtype=np.int8), f"zeros.int8.{layer.outputs}")
    scales = editor.constant(recipe.weight_scales.astype(np.float32), f"{layer.weight}.scales")
    axis = 1 if layer.kind == LINEAR else 0
    weights = int8_weights(editor, layer, recipe)
    return editor.node("DequantizeLinear", [weights, scales, zeros], f"{layer.node}.weights", axis=axis)
