"""What OpenVINO made of a graph: each layer's kind and the precision it really runs in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from engines.adapters.openvino_engine import FAILURES, HINTS, import_openvino
from engines.errors import EngineError, short_words

INT8 = ("u8", "i8")
"""Precisions in which a convolution or matrix product multiplies 8-bit codes."""


def executed_layers(graph: Path, *, precision: str = "fp32") -> Counter[tuple[str, str]]:
    """How many layers of each (kind, precision) run once `graph` is compiled: ("Convolution", "u8"), ..."""
    openvino = import_openvino()
    core = openvino.Core()
    try:
        options = {"INFERENCE_PRECISION_HINT": HINTS[precision]}
        compiled = core.compile_model(core.read_model(graph), "CPU", options)
        told = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    except FAILURES as error:
        raise EngineError(f"Listing the layers of {graph}: openvino-cpu refuses it: {short_words(error)}") from error
    return Counter((info["layerType"].astype(str), info["runtimePrecision"].astype(str)) for info in told)
