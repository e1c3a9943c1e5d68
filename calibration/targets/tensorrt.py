"""Int8 for TensorRT: symmetric Q/DQ with constant scales, one graph per timestep range, all on the same weights.

TensorRT takes scales from the graph alone and wants them constant, 0-d, with an int8 zero point of 0; hence a graph
per range, which costs its size without the weights. Symmetric codes waste half of themselves after SiLU, whose
values start at -0.28. An exact shift gives them back: with x = (x - c) + c,

    W x + b = W (x - c) + (b + c * sum of W)

and x - c is spread around 0. Zeros that a convolution pads with would become c, so the input is padded before the
shift. Where that costs more than it gains, choose `Symmetric` quantizers: their shift is 0 and nothing is added.

Arithmetic around the layers is float32 here; whoever builds the engine makes it fp16. ONNX Runtime on the CPU runs
these graphs with the same codes (its convolutions then compute in float), which is how their accuracy is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import ModelProto, NodeProto

from calibration.errors import GraphError
from calibration.layers import LINEAR, Layer, bias_of
from calibration.recipe import FloatArray, LayerRecipe, Recipe
from calibration.targets.editing import Array, Editor, Int8Graphs, rewritten
from calibration.targets.qdq import dequantized_weights, quantize_dequantize

NAME: Final = "tensorrt"


def int8_graphs(model: ModelProto, folder: Path, recipe: Recipe) -> Int8Graphs:
    """One graph per range. `folder` is where the float graph's weights file lies: biases are read from it."""
    _check_codes(recipe)
    models = []
    tensors: dict[str, Array] = {}
    for index in range(recipe.ranges):
        editor = Editor(1)

        def replace(editor: Editor, node: NodeProto, layer: Layer, told: LayerRecipe, index: int = index) -> None:
            _layer(editor, node, layer, told, index, bias_of(model, folder, layer))

        rewritten(model, recipe, editor, replace)
        models.append(editor.finish(model)[0])
        tensors |= editor.tensors
    return Int8Graphs(models=tuple(models), tensors=tensors)


def _check_codes(recipe: Recipe) -> None:
    wide = [
        f"{told.node} ({quantizer.lowest}..{quantizer.highest})"
        for told in recipe.layers
        for quantizer in told.inputs
        if max(quantizer.highest - quantizer.shift_steps, quantizer.shift_steps - quantizer.lowest) > 127
    ]
    if wide:
        raise GraphError(
            f"writing int8 graphs for TensorRT: at most 127 codes on each side of the middle were expected, found"
            f" {', '.join(wide[:3])} and {max(len(wide) - 3, 0)} more. Choose Symmetric or Shifted quantizers."
        )


def _layer(editor: Editor, node: NodeProto, layer: Layer, told: LayerRecipe, index: int, bias: FloatArray) -> None:
    quantizer = told.inputs[index]
    shift = quantizer.shift
    pad_first = shift != 0 and layer.padded
    x = editor.once(
        (layer.input, quantizer, layer.geometry.padding if pad_first else None),
        lambda: _coded_input(editor, layer, told, index),
    )
    attributes: dict[str, Any] = {"pads": [0, 0, 0, 0]} if pad_first else {}
    inputs = [x, dequantized_weights(editor, layer, told)]
    correction = None if told.corrections is None else told.corrections[index]
    added = np.zeros(layer.outputs) if correction is None else correction.astype(np.float64)
    if shift != 0:
        sums = told.codes.reshape(layer.outputs, -1).sum(axis=1, dtype=np.int64)
        added = added + shift * sums * told.weight_scales.astype(np.float64)
    if not added.any():
        editor.node(node.op_type, [*inputs, *node.input[2:]], layer.node, output=layer.output, like=node, **attributes)
    elif layer.kind == LINEAR:
        y = editor.node(node.op_type, inputs, layer.node, output=f"{layer.node}.product", like=node)
        extra = editor.constant(added.astype(np.float32), f"{layer.node}.added.{index}")
        editor.node("Add", [y, extra], f"{layer.node}.corrected", output=layer.output)
    else:
        whole = editor.constant((bias + added).astype(np.float32), f"{layer.node}.bias.{index}")
        editor.node(node.op_type, [*inputs, whole], layer.node, output=layer.output, like=node, **attributes)


def _coded_input(editor: Editor, layer: Layer, told: LayerRecipe, index: int) -> str:
    quantizer, x = told.inputs[index], layer.input
    if quantizer.shift != 0:
        if layer.padded:
            top, left, bottom, right = layer.geometry.padding
            pads = np.array([0, 0, top, left, 0, 0, bottom, right], dtype=np.int64)
            x = editor.node(
                "Pad", [x, editor.constant(pads, "pads." + ".".join(map(str, pads)))], f"{layer.node}.padded"
            )
        shift = editor.constant(np.array(quantizer.shift, dtype=np.float32), f"shift.{np.float32(quantizer.shift)!s}")
        x = editor.node("Sub", [x, shift], f"{layer.node}.shifted")
    return quantize_dequantize(editor, x, quantizer.scale, np.array(0, dtype=np.int8), layer.node)
