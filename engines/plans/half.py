"""A float32 graph -> the same graph in fp16 for GPU backends, float32 kept where the range of fp16 demands it.

fp16 ends at 65504 and has 11 significant bits. So these stay in float32: graph inputs and outputs (the sampler's state
and tables), the statistics of normalisations, softmax, and what only computes shapes. Weights beyond the range are
refused; whether activations stay inside it shows when the result is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError
from engines.onnx_files.external_tensors import load_external_tensors
from engines.onnx_files.graph_constants import with_constants
from engines.onnx_files.stored_weights import widen_weights

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

LARGEST_HALF = 65504.0

KEPT_IN_FLOAT32 = frozenset(
    {"InstanceNormalization", "LayerNormalization", "Softmax", "ReduceMean", "Sqrt", "Reciprocal"}
)
"""Operators computed in float32. GroupNormalization is not among them: its `stash_type` keeps the statistics in float32
while reading and writing fp16, and backends fuse it."""

FIXED_INPUTS: Mapping[str, frozenset[int]] = {"Resize": frozenset({1, 2})}
"""Inputs whose type the operator prescribes."""


def write_half_graph(source: Path, target: Path, constants: Mapping[str, NDArray[Any]] | None = None) -> None:
    """The fp16 form of the graph `source` at `target`, its weights beside it in `<target name>.weights`.

    constants: values that replace some of the graph's own.
    """
    import onnx

    model = onnx.load_model_from_string(with_constants(source, constants or {}))
    load_external_tensors(model, source.parent)
    converted = half_model(model)
    weights = f"{target.name}.weights"
    (target.parent / weights).unlink(missing_ok=True)  # onnx appends to what is there
    onnx.save_model(converted, str(target), save_as_external_data=True, location=weights, size_threshold=1024)


def half_model(model: ModelProto) -> ModelProto:
    """A new model with the weights inside; `model` must have its weights loaded."""
    import onnx

    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    widen_weights(converted)
    _Conversion(converted.graph).run()
    return converted


class _Conversion:
    """One pass over the nodes in order; every tensor's type is known when it is read."""

    def __init__(self, graph: GraphProto) -> None:
        from onnx import TensorProto, numpy_helper

        self._graph = graph
        self._float, self._half = TensorProto.FLOAT, TensorProto.FLOAT16
        self._tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._types: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
        self._types |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
        self._made: dict[str, NDArray[Any]] = {}
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[NodeProto] = []

    def run(self) -> None:
        from onnx import numpy_helper

        for node in list(self._graph.node):
            self._convert(node)
        outputs = {value.name for value in self._graph.output}
        for name in outputs & {name for name, kind in self._types.items() if kind == self._half}:
            self._end_in_float32(name)
        used = {name for node in self._nodes for name in node.input}
        tensors = {name: value for name, value in (self._tensors | self._made).items() if name in used}
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())

    def _convert(self, node: NodeProto) -> None:
        kind_inside = self._float if node.op_type in KEPT_IN_FLOAT32 else self._half
        fixed = FIXED_INPUTS.get(node.op_type, frozenset())
        if node.op_type != "Shape":
            for position, name in enumerate(node.input):
                if position not in fixed and self._types.get(name) in (self._float, self._half):
                    node.input[position] = self._as(name, kind_inside)
        kind = self._kind_of_output(node, kind_inside)
        self._types |= dict.fromkeys(node.output, kind)
        self._nodes.append(node)

    def _kind_of_output(self, node: NodeProto, wanted: int) -> int:
        from onnx import TensorProto

        if node.op_type == "Shape":
            return int(TensorProto.INT64)
        if node.op_type == "QuantizeLinear":  # its zero point says which
            return self._types[node.input[2]] if len(node.input) > 2 else int(TensorProto.UINT8)
        if node.op_type == "DequantizeLinear":
            return wanted
        first = self._types.get(node.input[0], wanted)
        return wanted if first in (self._float, self._half) else first

    def _as(self, name: str, kind: int) -> str:
        """The tensor in that type: itself, a converted weight, or the output of a cast made once."""
        from onnx import helper

        if self._types[name] == kind:
            return name
        if (name, kind) not in self._casts:
            suffix = "half" if kind == self._half else "float"
            converted = f"{name}.{suffix}"
            if name in self._tensors:
                self._made[converted] = half_weights(name, self._tensors[name])
            else:
                self._nodes.append(helper.make_node("Cast", [name], [converted], name=f"{name}/Cast.{suffix}", to=kind))
            self._types[converted] = kind
            self._casts[name, kind] = converted
        return self._casts[name, kind]

    def _end_in_float32(self, name: str) -> None:
        """The graph's output keeps its name and type: what makes and reads it is renamed, and a cast follows."""
        from onnx import helper

        inner = f"{name}.half"
        for node in self._nodes:
            for names in (node.output, node.input):  # an output may be read inside the graph as well
                for position in (at for at, known in enumerate(names) if known == name):
                    names[position] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [name], name=f"{name}/Cast.float", to=self._float))


def half_weights(name: str, weights: NDArray[Any]) -> NDArray[np.float16]:
    """Weights rounded to fp16; EngineError if one lies beyond its range."""
    largest = float(np.abs(weights).max(initial=0.0))
    if not largest <= LARGEST_HALF:
        raise EngineError(
            f"{name} holds {largest:g}, beyond fp16's {LARGEST_HALF:g}; run this graph in float32 or bf16 instead."
        )
    return weights.astype(np.float16)
