"""Whether a backend's int8 convolutions are exact on this CPU, found by one whose answer is known, and what if not.

x86 CPUs without VNNI multiply unsigned by signed bytes with an instruction that adds two products in 16 bits:
255 * 127 + 255 * 127 = 64770 becomes 32767, so errors appear where activations are large. OpenVINO (2026.4) does so,
and loses several dB; so int8 is refused there. ONNX Runtime multiplies unsigned by unsigned bytes another way, exactly,
so there the same codes plus 128 are given as weights, which costs about what int8 gains (docs/measurements.md, sums of
int8 products). `build-engine` measures which is faster.
"""

import json
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from engines.arrays import Array
from engines.backends import BACKENDS, DEFAULT_BACKEND, backend_named, open_engine
from engines.contract import REFUSE, UNSIGNED
from engines.errors import EngineError
from engines.onnx_files.graph_constants import CODES, read_constants, tensor_message
from engines.onnx_files.wire_format import bytes_field, number_field, text_field

CHANNELS: Final = 64
EXACT: Final = 200.0
"""The answer; with every pair of products cut off at 32767 it is 101."""


def constants_without_saturation(graph: Path, backend: str) -> dict[str, Array]:
    """What `open_engine` is given in place of an int8 graph's constants so that its sums are right on this CPU.

    Empty where they are right anyway. EngineError if the backend has no such way.
    """
    means = backend_named(backend).saturating_sums
    if means is None or not read_constants(graph, "int8") or not int8_saturates(backend):
        return {}
    if means == REFUSE:
        others = [name for name, other in BACKENDS.items() if other.saturating_sums == UNSIGNED]
        raise EngineError(
            f"Opening {graph}: {backend} cuts sums of int8 products off at 16 bits on this CPU, which has no VNNI, and "
            f"pictures lose several dB. Take {' or '.join(others)} as `engine` for int8, or another `precision`."
        )
    return unsigned_constants(graph)


def is_refused(backend: str) -> bool:
    """Whether a backend cannot compute right int8 sums on this CPU."""
    return backend_named(backend).saturating_sums == REFUSE and int8_saturates(backend)


def unsigned_constants(graph: Path) -> dict[str, Array]:
    """The int8 constants of a graph as uint8: codes and zero points plus 128, so that all values stay the same."""
    return {name: codes.view(np.uint8) ^ np.uint8(128) for name, codes in read_constants(graph, "int8").items()}


@cache
def int8_saturates(backend: str = DEFAULT_BACKEND) -> bool:
    """True if a convolution of the largest unsigned and the largest signed bytes comes out wrong."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "saturation.onnx"
        path.write_bytes(probe_graph())
        with open_engine(path, backend=backend, threads=1) as engine:
            ones = np.full((1, CHANNELS, 8, 8), 255.0, dtype=np.float32)
            answers = engine.run({"x": ones})["y"]
    return bool(np.abs(answers - EXACT).max() > 1.5)


def probe_graph() -> bytes:
    """An ONNX file: x in 255ths, coded as 0..255, times 64 x 64 weights of 127, scaled so that 255 gives 200.

    Written out field by field (onnx/onnx.proto), because the run time has no onnx. Q/DQ on all sides makes it a
    QLinearConv in ONNX Runtime and an int8 convolution in OpenVINO.
    """
    weight_scale = EXACT / (255 * 127 * CHANNELS)
    constants: dict[str, Array] = {
        "one": np.array(1, np.float32),
        "zero": np.array(0, np.uint8),
        "weight": np.full((CHANNELS, CHANNELS, 1, 1), 127, np.int8),
        "weight_scale": np.full(CHANNELS, weight_scale, np.float32),
        "weight_zero": np.zeros(CHANNELS, np.int8),
    }
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
    graph += b"".join(bytes_field(5, tensor_message(name, value)) for name, value in constants.items())
    graph += bytes_field(11, _value("x")) + bytes_field(12, _value("y"))
    opset = text_field(1, "") + number_field(2, 21)
    return (
        number_field(1, 10) + bytes_field(7, graph) + bytes_field(8, opset)
    )  # ModelProto: IR version 10, graph, opset 21


def _node(kind: str, inputs: list[str], output: str, attribute: bytes | None = None) -> bytes:
    message = (
        b"".join(text_field(1, name) for name in inputs)
        + text_field(2, output)
        + text_field(3, output)
        + text_field(4, kind)
    )
    return message if attribute is None else message + bytes_field(5, attribute)


def _value(name: str) -> bytes:
    dims = b"".join(bytes_field(1, number_field(1, size)) for size in (1, CHANNELS, 8, 8))
    tensor = number_field(1, CODES["float32"]) + bytes_field(2, dims)
    return text_field(1, name) + bytes_field(2, bytes_field(1, tensor))


if __name__ == "__main__":  # python -m engines.saturation BACKEND, for `doctor`, which imports no engine itself
    sys.stdout.write(f"{json.dumps(int8_saturates(sys.argv[1]))}\n")
