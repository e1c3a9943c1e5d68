"""Int8 for TensorRT: symmetric Q/DQ with constant scales, and one set of constants per timestep range.

TensorRT takes scales from the graph alone and wants them constant, 0-d, with an int8 zero point of 0. So every range
is a plan of its own, built from the one graph with that range's constants in it. Symmetric codes waste half of
themselves after SiLU, whose values start at -0.28. An exact shift gives them back: with x = (x - c) + c,

    W x + b = W (x - c) + (b + c * sum of W)

and x - c is spread around 0. Zeros that a convolution pads with would become c, so the input is padded before the
shift. Where that costs more than it gains, choose `Symmetric` quantizers: their shift is 0 and nothing is added. A
layer that is shifted in one range is padded and shifted in all, there by 0.

Arithmetic around the layers is float32 here; whoever builds the engine makes it fp16. ONNX Runtime on the CPU runs
these graphs with the same codes (its convolutions then compute in float), which is how their accuracy is checked.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from calibration.choose.recipe import FloatArray, LayerRecipe, Recipe
from calibration.errors import GraphError
from calibration.observe.layers import LINEAR, Layer, bias_of
from calibration.targets.editing import (
    Editor,
    Int8Graphs,
    dequantized_weights,
    input_of,
    quantize_dequantize,
    rewritten,
)

NAME: Final = "tensorrt"


def int8_graphs(model: ModelProto, folder: Path, recipe: Recipe) -> Int8Graphs:
    """One graph, with constants per range. `folder` is where the float graph's weights file lies: for the biases."""
    _check_codes(recipe)
    editor = Editor(recipe.ranges, constant_ranges=True)

    def replace(editor: Editor, node: NodeProto, layer: Layer, layer_recipe: LayerRecipe) -> None:
        _layer(editor, node, layer, layer_recipe, bias_of(model, folder, layer))

    rewritten(model, recipe, editor, replace)
    return editor.finish(model)


def _check_codes(recipe: Recipe) -> None:
    wide = [
        f"{layer.node} ({quantizer.lowest}..{quantizer.highest})"
        for layer in recipe.layers
        for quantizer in layer.inputs
        if max(quantizer.highest - quantizer.shift_steps, quantizer.shift_steps - quantizer.lowest) > 127
    ]
    if wide:
        raise GraphError(
            f"writing int8 graphs for TensorRT: at most 127 codes on each side of the middle were expected, found"
            f" {', '.join(wide[:3])} and {max(len(wide) - 3, 0)} more. Choose Symmetric or Shifted quantizers."
        )


def _layer(editor: Editor, node: NodeProto, layer: Layer, recipe: LayerRecipe, bias: FloatArray) -> None:
    shifts = np.array([quantizer.shift for quantizer in recipe.inputs])
    pad_first = bool(shifts.any()) and layer.padded
    x = editor.once(
        (input_of(editor, layer, recipe), recipe.inputs, layer.geometry.padding if pad_first else None),
        lambda: _coded_input(editor, layer, recipe, shifts),
    )
    attributes: dict[str, Any] = {"pads": [0, 0, 0, 0]} if pad_first else {}
    inputs = [x, dequantized_weights(editor, layer, recipe)]
    if recipe.corrections is None and not shifts.any():
        editor.node(node.op_type, [*inputs, *node.input[2:]], layer.node, output=layer.output, like=node, **attributes)
        return
    sums = recipe.codes.reshape(layer.outputs, -1).sum(axis=1, dtype=np.int64) * recipe.weight_scales.astype(np.float64)
    linear = layer.kind == LINEAR
    added = editor.channels(
        shifts,
        f"{layer.node}.{'added' if linear else 'bias'}.{NAME}",  # openvino's holds no shift
        slopes=sums.astype(np.float32),
        constants=None if linear else bias,
        corrections=recipe.corrections,
    )
    if linear:
        y = editor.node(node.op_type, inputs, layer.node, output=f"{layer.node}.product", like=node)
        editor.node("Add", [y, added], f"{layer.node}.corrected", output=layer.output)
    else:
        editor.node(node.op_type, [*inputs, added], layer.node, output=layer.output, like=node, **attributes)


def _coded_input(editor: Editor, layer: Layer, recipe: LayerRecipe, shifts: NDArray[np.float64]) -> str:
    x = input_of(editor, layer, recipe)
    if shifts.any():
        if layer.padded:
            top, left, bottom, right = layer.geometry.padding
            pads = np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64)
            x = editor.node(
                "Pad", [x, editor.constant(pads, "pads." + ".".join(map(str, pads)))], f"{layer.node}.padded"
            )
        x = editor.node("Sub", [x, editor.number(shifts, f"{layer.node}.shift")], f"{layer.node}.shifted")
    scale = editor.number(recipe.input_scales, f"{layer.node}.scale")
    return quantize_dequantize(editor, x, scale, np.array(0, dtype=np.int8), layer.node)
