"""Int8 for OpenVINO on the CPU: Q/DQ around the inputs of convolutions with constant scales, outputs in float.

OpenVINO (2026.4) runs a convolution in int8 if its Q/DQ scales are constants; scales that are graph inputs make it
float. So the constant scale is that of the first range, and two numbers per layer move the others there and back:

    Mul(x, m) -> Q/DQ(s) -> Conv -> Mul(r) -> Add(bias)      m = s / s_range, r = s_range / s

which is exact up to float rounding: (x m / s) = x / s_range. In bf16 m is rounded to eight bits (r, part of the
convolution, is not), so the scales of ranges are chosen for ratios m that have no more: `common_window`. The
zero point cannot move, since the convolution pads with it. With one range, or where the scale never changes, there is
neither Mul and the bias stays in the convolution.

Measured on the full IDM step (2026.4, one thread): all 107 convolutions run as u8, with bf16 around 3.1 times as fast
as float32, with m and r 3.0 times. Symmetric signed codes are right here too (26.56 dB against float, ONNX Runtime
on the same graph 26.57).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto

from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.observe.layers import LINEAR, Layer, bias_of
from calibration.targets.editing import Editor, Int8Graphs, check_zero_points, input_of, rewritten
from calibration.targets.qdq import dequantized_weights, quantize_dequantize

NAME: Final = "openvino"


def int8_graphs(model: ModelProto, folder: Path, recipe: Recipe) -> Int8Graphs:
    """One graph for all ranges. `folder` is where the float graph's weights file lies: biases are read from it."""
    check_zero_points(recipe)
    editor = Editor(recipe.ranges)

    def replace(editor: Editor, node: NodeProto, layer: Layer, told: LayerRecipe) -> None:
        _layer(editor, node, layer, told, folder, model)

    rewritten(model, recipe, editor, replace)
    return editor.finish(model)


def _layer(editor: Editor, node: NodeProto, layer: Layer, told: LayerRecipe, folder: Path, model: ModelProto) -> None:
    scales = told.input_scales
    moved = bool((scales != scales[0]).any())
    x = _coded_input(editor, layer, told, moved)
    inputs = [x, dequantized_weights(editor, layer, told)]
    if not moved and told.corrections is None:
        editor.node(node.op_type, [*inputs, *node.input[2:]], layer.node, output=layer.output, like=node)
        return
    bias = None if layer.kind == LINEAR else bias_of(model, folder, layer)
    last = layer.output if bias is None and told.corrections is None else None
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
            corrections=told.corrections,
            linear=layer.kind == LINEAR,
        )
        editor.node("Add", [y, added], f"{layer.node}.biased", output=layer.output)


def _coded_input(editor: Editor, layer: Layer, told: LayerRecipe, moved: bool) -> str:
    scales = told.input_scales
    zero_point = np.array(told.inputs[0].zero_point, dtype=np.uint8)

    def make() -> str:
        x = input_of(editor, layer, told)
        if moved:
            there = editor.number(scales[0] / scales, f"{layer.node}.there")
            x = editor.node("Mul", [x, there], f"{layer.node}.moved")
        scale = editor.constant(np.array(scales[0], dtype=np.float32), f"scale.{np.float32(scales[0])!s}")
        return quantize_dequantize(editor, x, scale, zero_point, layer.node)

    return editor.once((input_of(editor, layer, told), told.inputs), make)
