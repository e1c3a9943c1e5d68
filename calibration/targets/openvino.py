"""Int8 for OpenVINO on the CPU: Q/DQ around the inputs of convolutions with constant scales, outputs in float.

OpenVINO (2026.4) runs a convolution in int8 if its Q/DQ scales are constants; scales that are graph inputs make it
float. So the constant scale is that of the first range, and two numbers per layer move the others there and back:

    Mul(x, m) -> Q/DQ(s) -> Conv -> Mul(r) -> Add(bias)      m = s / s_range, r = s_range / s

which is exact up to float rounding: (x m / s) = x / s_range. In bf16 m is rounded to eight bits (r, part of the
convolution, is not), so the scales of ranges are chosen for ratios m that have no more: `common_window`. The
zero point cannot move, since the convolution pads with it. With one range, or where the scale never changes, there is
neither Mul and the bias stays in the convolution.
"""

from pathlib import Path
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto

from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.observe.layers import LINEAR, Layer, bias_of
from calibration.targets.editing import (
    Editor,
    Int8Graphs,
    check_zero_points,
    dequantized_weights,
    input_of,
    quantize_dequantize,
    rewritten,
)

NAME: Final = "openvino"


def int8_graphs(model: ModelProto, folder: Path, recipe: Recipe) -> Int8Graphs:
    """One graph for all ranges. `folder` is where the float graph's weights file lies: biases are read from it."""
    check_zero_points(recipe)
    editor = Editor(recipe.ranges)

    def replace(editor: Editor, node: NodeProto, layer: Layer, layer_recipe: LayerRecipe) -> None:
        _layer(editor, node, layer, layer_recipe, folder, model)

    rewritten(model, recipe, editor, replace)
    return editor.finish(model)


def _layer(editor: Editor, node: NodeProto, layer: Layer, recipe: LayerRecipe, folder: Path, model: ModelProto) -> None:
    scales = recipe.input_scales
    moved = bool((scales != scales[0]).any())
    x = _coded_input(editor, layer, recipe, moved)
    inputs = [x, dequantized_weights(editor, layer, recipe)]
    if not moved and recipe.corrections is None:
        editor.node(node.op_type, [*inputs, *node.input[2:]], layer.node, output=layer.output, like=node)
        return
    bias = None if layer.kind == LINEAR else bias_of(model, folder, layer)
    last = layer.output if bias is None and recipe.corrections is None else None
    y = editor.node(
        node.op_type, inputs, layer.node, output=(None if moved else last) or f"{layer.node}.product", like=node
    )
    if moved:
        back = editor.number(scales / scales[0], f"{layer.node}.back")
        y = editor.node("Mul", [y, back], f"{layer.node}.moved_back", output=last)
    if last is None:
        zeros = np.zeros(layer.outputs, dtype=np.float32)
        added = editor.channels(
            np.zeros(editor.ranges, dtype=np.float32),
            f"{layer.node}.bias.{NAME}",  # tensorrt adds its shift to its own
            slopes=zeros,
            constants=bias,
            corrections=recipe.corrections,
            linear=layer.kind == LINEAR,
        )
        editor.node("Add", [y, added], f"{layer.node}.biased", output=layer.output)


def _coded_input(editor: Editor, layer: Layer, recipe: LayerRecipe, moved: bool) -> str:
    scales = recipe.input_scales
    zero_point = np.array(recipe.inputs[0].zero_point, dtype=np.uint8)

    def make() -> str:
        x = input_of(editor, layer, recipe)
        if moved:
            there = editor.number(scales[0] / scales, f"{layer.node}.there")
            x = editor.node("Mul", [x, there], f"{layer.node}.moved")
        scale = editor.constant(np.array(scales[0], dtype=np.float32), f"scale.{np.float32(scales[0])!s}")
        return quantize_dequantize(editor, x, scale, zero_point, layer.node)

    return editor.once((input_of(editor, layer, recipe), recipe.inputs), make)
