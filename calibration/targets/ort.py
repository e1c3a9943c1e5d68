"""Int8 for ONNX Runtime on the CPU: literal QLinearConv, whose outputs are 8-bit codes too.

ONNX Runtime (1.31) keeps a Q/DQ convolution in float unless its output is quantized, so outputs are. One output scale
for all channels loses much; but weight scales are per channel, and all that the kernel makes of them is one multiplier
per channel. So the multiplier is given directly, as 1 / step of the channel, and an int32 bias centres each channel:
every channel then fills its own 256 codes, and a scale and an offset afterwards bring them back exactly.

    code = round(accumulator / (step * gain)) + 128,  with  accumulator = sum (c - z) w - centre
    out  = (code - 128) * step * gain * s_x s_w + centre * s_x s_w + bias

The int32 bias is constant, since a run-time bias makes QLinearConv slower, while run-time scales and multipliers cost
nothing (docs/measurements.md); in accumulator units it may be, and what depends on the range is in `out` above. The
zero point of the input is constant as well.

A linear layer is com.microsoft's MatMulIntegerToFloat, which needs no quantized output.
"""

from pathlib import Path
from typing import Final

import numpy as np
from onnx import ModelProto, NodeProto

from calibration.choose.recipe import FloatArray, LayerRecipe, OutputWindow, Recipe
from calibration.errors import GraphError
from calibration.observe.layers import LINEAR, Layer, bias_of, layers_of
from calibration.targets.editing import Editor, Int8Graphs, check_zero_points, input_of, int8_weights, rewritten

MIDDLE: Final = 128


def int8_graphs(model: ModelProto, folder: Path, recipe: Recipe) -> Int8Graphs:
    """One graph for all ranges. `folder` is where the float graph's weights file lies: biases are read from it."""
    check_zero_points(recipe)
    _check_outputs(model, recipe)
    editor = Editor(recipe.ranges)

    def replace(editor: Editor, node: NodeProto, layer: Layer, layer_recipe: LayerRecipe) -> None:
        if layer.kind == LINEAR:
            _linear(editor, node, layer, layer_recipe)
        else:
            _conv(editor, node, layer, layer_recipe, bias_of(model, folder, layer))

    rewritten(model, recipe, editor, replace)
    return editor.finish(model)


def _check_outputs(model: ModelProto, recipe: Recipe) -> None:
    linear = {layer.node for layer in layers_of(model) if layer.kind == LINEAR}
    missing = [
        layer_recipe.node
        for layer_recipe in recipe.layers
        if layer_recipe.output is None and layer_recipe.node not in linear
    ]
    if missing:
        raise GraphError(
            f"writing an int8 graph for ONNX Runtime: {len(missing)} convolutions have no output window (first"
            f" {missing[0]}); QLinearConv needs one. Make it with output_window."
        )


def _conv(editor: Editor, node: NodeProto, layer: Layer, recipe: LayerRecipe, bias: FloatArray) -> None:
    window = recipe.output
    assert window is not None  # _check_outputs
    codes, zero = _quantized_input(editor, layer, recipe)
    weight, weight_zero = _weights(editor, layer, recipe)
    unit = editor.constant(np.array(1, dtype=np.float32), "one")
    y = editor.node(
        "QLinearConv",
        [
            codes,
            unit,
            zero,
            weight,
            editor.constant((1 / window.steps).astype(np.float32), f"{layer.module}.multipliers"),
            weight_zero,
            editor.number(window.gains, f"{layer.module}.output_gain"),
            _middle(editor),
            editor.constant(-window.centres, f"{layer.module}.centring"),
        ],
        f"{layer.node}.int8",
        like=node,
    )
    _restore(editor, layer, recipe, window, bias, y)


def _restore(
    editor: Editor,
    layer: Layer,
    recipe: LayerRecipe,
    window: OutputWindow,
    bias: FloatArray,
    y: str,
) -> None:
    """(code - 128) * scale + offset: the range's part of the scale is one number, the channels' part constant."""
    unit = recipe.weight_scales.astype(np.float64)
    offset = editor.channels(
        recipe.input_scales,
        f"{layer.module}.offset",
        slopes=(unit * window.centres).astype(np.float32),
        constants=bias,
        corrections=recipe.corrections,
    )
    scale = editor.number(recipe.input_scales * window.gains, f"{layer.module}.output_scale")
    steps = editor.constant((unit * window.steps).astype(np.float32)[None, :, None, None], f"{layer.module}.steps")
    plain = editor.node("DequantizeLinear", [y, scale, _middle(editor)], f"{layer.node}.codes")
    scaled = editor.node("Mul", [plain, steps], f"{layer.node}.scaled")
    editor.node("Add", [scaled, offset], f"{layer.node}.restored", output=layer.output)


def _middle(editor: Editor) -> str:
    return editor.constant(np.array(MIDDLE, dtype=np.uint8), "zero_point.middle")


def _linear(editor: Editor, node: NodeProto, layer: Layer, recipe: LayerRecipe) -> None:
    codes, zero = _quantized_input(editor, layer, recipe)
    weight, weight_zero = _weights(editor, layer, recipe)
    inputs = [
        codes,
        weight,
        editor.number(recipe.input_scales, f"{layer.node}.input_scale"),
        editor.constant(recipe.weight_scales.astype(np.float32), f"{layer.weight}.scales"),
        zero,
        weight_zero,
    ]
    if recipe.corrections is not None:
        zeros = np.zeros(layer.outputs, dtype=np.float32)
        nothing = np.zeros(recipe.corrections.shape[0], dtype=np.float32)
        inputs.append(
            editor.channels(
                nothing, f"{layer.node}.correction", slopes=zeros, corrections=recipe.corrections, linear=True
            )
        )
    editor.node("MatMulIntegerToFloat", inputs, f"{layer.node}.int8", output=node.output[0], domain="com.microsoft")


def _quantized_input(editor: Editor, layer: Layer, recipe: LayerRecipe) -> tuple[str, str]:
    """The codes of the input, made once for all layers that read it with the same scales, and their zero point."""
    zero_point = recipe.inputs[0].zero_point
    zero = editor.constant(np.array(zero_point, dtype=np.uint8), f"zero_point.{zero_point}")

    def quantize() -> str:
        # Scales per channel would need no Mul, but keep the convolution from the layout that it is fast in.
        scale = editor.number(recipe.input_scales, f"{layer.module}.input_scale")
        return editor.node("QuantizeLinear", [input_of(editor, layer, recipe), scale, zero], f"{layer.node}.input")

    return editor.once((input_of(editor, layer, recipe), recipe.inputs), quantize), zero


def _weights(editor: Editor, layer: Layer, recipe: LayerRecipe) -> tuple[str, str]:
    """The codes and their zero point; CPUs that would cut sums off at 16 bits get both plus 128, engines.saturation."""
    zero = editor.constant(np.array(0, dtype=np.int8), "zero_point.weights.int8")
    return int8_weights(editor, layer, recipe), zero
