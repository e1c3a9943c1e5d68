"""Graphs with explicit Q/DQ as TensorRT wants them, small enough to build in a second."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper, numpy_helper


def write_quantized(path: Path, *, scale_shape: tuple[int, ...] = (), kind: Any = np.float16) -> Path:
    """A convolution and a matrix product on int8 codes, symmetric, weights stored as int8.

    With `scale_shape` (1,) instead of a scalar TensorRT leaves the convolution in float without a word.
    """
    random = np.random.default_rng(0)
    tensors: dict[str, NDArray[Any]] = {
        "weight": random.integers(-127, 128, (32, 32, 3, 3)).astype(np.int8),
        "weight_scale": np.full(32, 0.01, kind),
        "weight_zero": np.zeros(32, np.int8),
        "scale": np.full(scale_shape, 0.02, kind),
        "zero": np.zeros(scale_shape, np.int8),
        "bias": np.zeros(32, kind),
        "matrix": random.integers(-127, 128, (16, 16)).astype(np.int8),
        "matrix_scale": np.full(16, 0.01, kind),
        "matrix_zero": np.zeros(16, np.int8),
    }
    half = kind is np.float16
    nodes = [
        helper.make_node("QuantizeLinear", ["x_half" if half else "x", "scale", "zero"], ["q1"], name="q1"),
        helper.make_node("DequantizeLinear", ["q1", "scale", "zero"], ["d1"], name="d1"),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], name="w", axis=0),
        helper.make_node("Conv", ["d1", "w", "bias"], ["y1"], name="conv", pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["y1", "scale", "zero"], ["q2"], name="q2"),
        helper.make_node("DequantizeLinear", ["q2", "scale", "zero"], ["d2"], name="d2"),
        helper.make_node("DequantizeLinear", ["matrix", "matrix_scale", "matrix_zero"], ["m"], name="m", axis=1),
        helper.make_node("MatMul", ["d2", "m"], ["y_half" if half else "y"], name="matmul"),
    ]
    if half:
        nodes.insert(0, helper.make_node("Cast", ["x"], ["x_half"], to=T.FLOAT16))
        nodes.append(helper.make_node("Cast", ["y_half"], ["y"], to=T.FLOAT))
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", T.FLOAT, ["batch", 32, "height", 16])],
        [helper.make_tensor_value_info("y", T.FLOAT, ["batch", 32, "height", 16])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path
