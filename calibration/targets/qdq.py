"""The two pieces that Q/DQ graphs are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.choose.recipe import LayerRecipe
from calibration.observe.layers import LINEAR, Layer
from calibration.targets.editing import Editor, int8_weights


def quantize_dequantize(editor: Editor, x: str, scale: str, zero_point: NDArray[Any], name: str) -> str:
    """x as 8-bit codes and back; scale: name of a constant. It and the zero point are 0-d: TensorRT leaves a
    convolution in float otherwise."""
    zero_name = editor.constant(zero_point.reshape(()), f"zero_point.{zero_point.dtype.name}.{int(zero_point)}")
    codes = editor.node("QuantizeLinear", [x, scale, zero_name], f"{name}.quantized")
    return editor.node("DequantizeLinear", [codes, scale, zero_name], f"{name}.dequantized")


def dequantized_weights(editor: Editor, layer: Layer, told: LayerRecipe) -> str:
    """The float weights out of the int8 ones: one scale per output channel, axis 0 of Conv, axis 1 of MatMul."""
    zeros = editor.constant(np.zeros(layer.outputs, dtype=np.int8), f"zeros.int8.{layer.outputs}")
    scales = editor.constant(told.weight_scales.astype(np.float32), f"{layer.weight}.scales")
    axis = 1 if layer.kind == LINEAR else 0
    weights = int8_weights(editor, layer, told)
    return editor.node("DequantizeLinear", [weights, scales, zeros], f"{layer.node}.weights", axis=axis)
