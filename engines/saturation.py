"""Whether a backend's int8 convolutions are exact on this CPU, found by one whose answer is known.

x86 CPUs without VNNI multiply unsigned by signed bytes with an instruction that adds two products in 16 bits:
255 * 127 + 255 * 127 = 64770 becomes 32767, and pictures get visible errors where activations are large. Weights of
7 bits avoid it (255 * 64 * 2 = 32640), and so do unsigned weights on ONNX Runtime.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from engines.backends import DEFAULT_BACKEND, open_engine
from engines.wire_format import bytes_field, number_field, text_field

CHANNELS: Final = 64
EXACT: Final = 200.0
"""The answer; with every pair of products cut off at 32767 it is 101."""

_FLOAT, _UINT8, _INT8 = 1, 2, 3  # TensorProto.DataType


def int8_saturates(backend: str = DEFAULT_BACKEND) -> bool:
    """True if a convolution of the largest unsigned and the largest signed bytes comes out wrong."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "saturation.onnx"
        path.write_bytes(probe_graph())
        with open_engine(path, backend=backend, threads=1) as engine:
            ones = np.full((1, CHANNELS, 8, 8), 255.0, dtype=np.float32)
            found = engine.run({"x": ones})["y"]
    return bool(np.abs(found - EXACT).max() > 1.5)


def probe_graph() -> bytes:
    """An ONNX file: x in 255ths, coded as 0..255, times 64 x 64 weights of 127, scaled so that 255 gives 200.

    Written out field by field (onnx/onnx.proto), because the run time has no onnx. Q/DQ on all sides makes it a
    QLinearConv in ONNX Runtime and an int8 convolution in OpenVINO.
    """
    weight_scale = EXACT / (255 * 127 * CHANNELS)
    constants = [
        _tensor("one", _FLOAT, (), np.float32(1).tobytes()),
        _tensor("zero", _UINT8, (), b"\0"),
        _tensor("weight", _INT8, (CHANNELS, CHANNELS, 1, 1), bytes([127]) * CHANNELS**2),
        _tensor("weight_scale", _FLOAT, (CHANNELS,), np.full(CHANNELS, weight_scale, np.float32).tobytes()),
        _tensor("weight_zero", _INT8, (CHANNELS,), bytes(CHANNELS)),
    ]
    axis = text_field(1, "axis") + number_field(3, 0) + number_field(20, 2)  # AttributeProto of type INT
    nodes = [
        _node("QuantizeLinear", ["x", "one", "zero"], "x.codes"),
        _node("DequantizeLinear", ["x.codes", "one", "zero"], "x.coded"),
        _node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], "weight.coded", axis),
        _node("Conv", ["x.coded", "weight.coded"], "product"),
        _node("QuantizeLinear", ["product", "one", "zero"], "y.codes"),
        _node("DequantizeLinear", ["y.codes", "one", "zero"], "y"),
    ]
    graph = b"".join(bytes_field(1, node) for node in nodes) + text_field(2, "saturation")
    graph += b"".join(bytes_field(5, constant) for constant in constants)
    graph += bytes_field(11, _value("x")) + bytes_field(12, _value("y"))
    opset = text_field(1, "") + number_field(2, 21)
    return (
        number_field(1, 10) + bytes_field(7, graph) + bytes_field(8, opset)
    )  # ModelProto: IR version 10, graph, opset 21


def _node(kind: str, inputs: list[str], output: str, attribute: bytes | None = None) -> bytes:
    told = (
        b"".join(text_field(1, name) for name in inputs)
        + text_field(2, output)
        + text_field(3, output)
        + text_field(4, kind)
    )
    return told if attribute is None else told + bytes_field(5, attribute)


def _tensor(name: str, kind: int, shape: tuple[int, ...], data: bytes) -> bytes:
    dims = b"".join(number_field(1, size) for size in shape)
    return dims + number_field(2, kind) + text_field(8, name) + bytes_field(9, data)


def _value(name: str) -> bytes:
    dims = b"".join(bytes_field(1, number_field(1, size)) for size in (1, CHANNELS, 8, 8))
    tensor = number_field(1, _FLOAT) + bytes_field(2, dims)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor))
