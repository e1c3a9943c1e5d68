"""TensorRT's own listing of the layers it made, counted by kind and number format.

With detailed profiling verbosity the builder's log ends with one line per layer, e.g. (shortened)

    Name: the_conv_myl0_2, LayerType: correlation, Inputs: [ { Name: a, ..., Datatype: Int8, ...

What a layer computes in is the format of its first input. So whether an int8 graph really became int8 can be
checked where the engine is built, without a GPU to run it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

KINDS = {"correlation": "convolution", "Convolution": "convolution", "CaskConvolution": "convolution"}
KINDS |= {"gemm": "matmul", "MatrixMultiply": "matmul"}
"""LayerType of TensorRT 10 and TensorRT-RTX 1.7 -> what is counted."""

ATTENTION = "_gemm_mha"
"""Part of the name of a fused attention, whose LayerType is that of any fused kernel."""

_NAME = re.compile(r"^Name: (.*?), LayerType: (\w+),")
_FIRST_FORMAT = re.compile(r"Inputs: \[ \{[^}]*?Datatype: (\w+)")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a built engine; `dtype` is TensorRT's word (Int8, Half, Float, ...), "" for one without inputs."""

    name: str
    kind: str
    dtype: str


def layers_from_log(log: Iterable[str]) -> tuple[Layer, ...]:
    """The layers of the builder's log messages, which may hold several lines each; none if there is no listing."""
    layers: list[Layer] = []
    inside = False
    for line in (line for message in log for line in message.splitlines()):
        if line.strip() == "Layers:":
            inside, layers = True, []
        elif line.startswith("Bindings:"):
            inside = False
        elif inside and (match := _NAME.match(line)):
            dtype = _FIRST_FORMAT.search(line)
            layers.append(Layer(name=match[1], kind=_kind(match[1], match[2]), dtype=dtype[1] if dtype else ""))
    return tuple(layers)


def _kind(name: str, layer_type: str) -> str:
    return "attention" if ATTENTION in name else KINDS.get(layer_type, "other")


def count_formats(layers: Iterable[Layer]) -> dict[str, dict[str, int]]:
    """{"convolution": {"Int8": 47, "Half": 2}, ...}; layers that only move data are "other"."""
    counts = Counter((layer.kind, layer.dtype) for layer in layers if layer.dtype)
    result: dict[str, dict[str, int]] = {}
    for (kind, dtype), count in sorted(counts.items()):
        result.setdefault(kind, {})[dtype] = count
    return result
