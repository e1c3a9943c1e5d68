"""Weights that a graph stores in fp16 and computes with in float32, made plain float32 weights again.

Such a graph has an fp16 initializer and a Cast to float32 for each of these weights. Backends fold the pair when they
open the graph; whatever edits graphs does it first, and then finds every weight where its operator expects it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto


def widen_weights(model: ModelProto) -> None:
    """Every Cast of an fp16 initializer to float32 is gone from `model`: its output is an initializer of that name.

    The weights must be loaded. An fp16 initializer that something else reads as well stays.
    """
    from onnx import TensorProto, numpy_helper

    graph = model.graph
    halves = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT16}
    casts = [
        node
        for node in graph.node
        if node.op_type == "Cast"
        and node.input[0] in halves
        and any(a.name == "to" and a.i == TensorProto.FLOAT for a in node.attribute)
    ]
    widened = [
        numpy_helper.from_array(numpy_helper.to_array(halves[c.input[0]]).astype(np.float32), c.output[0])
        for c in casts
    ]
    for node in casts:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    others = [tensor for tensor in graph.initializer if tensor.name not in halves or tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend([*others, *widened])
