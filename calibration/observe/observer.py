"""The values of a float graph's inner tensors while it runs, from which everything in calibration is gathered.

    layers = layers_of(read_graph(path))
    with Observer(path, [layer.input for layer in layers], example=feeds) as observer:
        for tensor, values in observer.run(feeds):
            ...

Tensors become outputs of copies of the graph. One copy serves all of them if their values fit `max_bytes`; else they
are divided, in the order of the graph, among several copies of which each ends where its last tensor is made. Copies
are never files: ONNX Runtime takes them from memory, and reads the weights beside the graph.

Where only the extremes of a tensor are wanted, the graph itself finds them, and its values never leave it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from calibration.errors import GraphError, StatisticsError
from calibration.observe.layers import layers_of, read_graph
from engines.adapters.onnxruntime_engine import OnnxRuntimeEngine, open_model
from engines.arrays import Array

MOST_BYTES: Final = 1 << 29
"""Of activations that are held at a time; all of the full IDM at 128x128 fit: docs/measurements.md, values observed."""

Shape = tuple[int, ...]

NO_EXTREMES: Final[Mapping[str, int]] = MappingProxyType({})


def smallest_of(tensor: str) -> str:
    """The name of the smallest values of a tensor's channels."""
    return f"{tensor}:smallest"


def largest_of(tensor: str) -> str:
    """The name of the largest values of a tensor's channels."""
    return f"{tensor}:largest"


class Observer:
    """A graph whose inner tensors are seen at every run; a context manager.

    example: inputs of the largest size that will be run, by which the tensors are divided. Every copy of the graph
    holds the weights that lead to its tensors, and each run computes all copies: with n of them it takes about
    (n + 1) / 2 times as long as with one.

    extremes: tensors, and the axis of their channels, of which a run gives the smallest and largest value of each
    channel under the names `smallest_of` and `largest_of`. A NaN among finite values may be overlooked there.
    """

    def __init__(
        self,
        graph: Path,
        tensors: Iterable[str],
        *,
        example: Mapping[str, Array],
        extremes: Mapping[str, int] = NO_EXTREMES,
        max_bytes: int = MOST_BYTES,
        threads: int | None = None,
    ) -> None:
        model = read_graph(graph)
        fed = {name: array.shape for name, array in example.items()}
        if extremes:
            shapes = tensor_shapes(model, fed)
            _in_graph_order(model, list(extremes), shapes, graph)  # refuses what the graph does not make
            _find_extremes(model, extremes, shapes)
        found_by_graph = (name for tensor in extremes for name in (smallest_of(tensor), largest_of(tensor)))
        names = list(dict.fromkeys([*tensors, *found_by_graph]))
        shapes = tensor_shapes(model, fed)
        self._fed = [name for name in names if name in example]
        inner = _in_graph_order(model, [name for name in names if name not in example], shapes, graph)
        self.groups = groups_within(max_bytes, {name: shapes[name] for name in inner})
        self._engines: list[OnnxRuntimeEngine] = []
        try:
            for group in self.groups:
                part = ending_in(model, {name: len(shapes[name]) for name in group})
                self._engines.append(open_model(part.SerializeToString(), graph, threads=threads))
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """The name and the values of every tensor for these inputs; only one group's values are held at a time."""
        for values in self.groups_of(feeds):
            while values:
                yield values.popitem()

    def groups_of(self, feeds: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
        """Every tensor's values for these inputs, a mapping at a time: those that are fed, then group by group.

        For callers that run several inputs at once.
        """
        if self._fed:
            yield {name: feeds[name] for name in self._fed}
        for engine in self._engines:
            yield engine.views({spec.name: feeds[spec.name] for spec in engine.inputs})

    def close(self) -> None:
        """The memory of all copies is released."""
        for engine in self._engines:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tensor_shapes(model: ModelProto, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of all inner tensors and outputs for inputs of the given shapes, as far as ONNX can infer them."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for entry in fixed.graph.input:
        if entry.name not in inputs:
            raise GraphError(f"observing a graph: its input {entry.name} is missing from the example.")
        for dimension, size in zip(entry.type.tensor_type.shape.dim, inputs[entry.name], strict=True):
            dimension.dim_value = size
    for entry in fixed.graph.output:
        for dimension in entry.type.tensor_type.shape.dim:
            dimension.Clear()  # else a stated name would stand in the way of an inferred number
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    shapes = {}
    for entry in [*inferred.graph.value_info, *inferred.graph.output]:
        sizes = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        if all(sizes):
            shapes[entry.name] = tuple(sizes)
    return shapes


def multiplications_of(graph: Path, inputs: Mapping[str, Shape]) -> dict[str, float]:
    """Multiply-accumulates of each layer of a graph by its node: output values times what each is summed over."""
    model = read_graph(graph)
    shapes = tensor_shapes(model, inputs)
    return {layer.node: float(prod(shapes[layer.output]) * prod(layer.weight_shape[1:])) for layer in layers_of(model)}


def _find_extremes(model: ModelProto, channel_axes: Mapping[str, int], shapes: Mapping[str, Shape]) -> None:
    """The model gets nodes that make the extremes of these tensors, each after the node that makes the tensor."""
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for name in set(node.output) & set(channel_axes):
            rank = len(shapes[name])
            axes = [axis for axis in range(rank) if axis != channel_axes[name] % rank]
            over = f"{name}:axes"
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes, dtype=np.int64), over))
            for kind, output in (("ReduceMin", smallest_of(name)), ("ReduceMax", largest_of(name))):
                nodes.append(helper.make_node(kind, [name, over], [output], name=output, keepdims=0))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def groups_within(max_bytes: int, shapes: Mapping[str, Shape]) -> list[list[str]]:
    """The tensors in their order, cut where the float32 values of a group would exceed `max_bytes`."""
    groups: list[list[str]] = []
    filled = 0
    for name, shape in shapes.items():
        size = 4 * prod(shape)
        if not groups or filled + size > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def ending_in(model: ModelProto, ranks: Mapping[str, int]) -> ModelProto:
    """The part of the model that leads to the named tensors, which are its outputs; ranks: their numbers of axes."""
    tensors = set(ranks)
    nodes = []
    for node in reversed(model.graph.node):
        if tensors & set(node.output):
            nodes.append(node)
            tensors |= set(node.input)
    part = ModelProto()
    part.CopyFrom(model)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in ranks.items()]
    for entries, field in (
        (nodes[::-1], part.graph.node),
        ([entry for entry in model.graph.input if entry.name in tensors], part.graph.input),
        ([tensor for tensor in model.graph.initializer if tensor.name in tensors], part.graph.initializer),
        (outputs, part.graph.output),
    ):
        del field[:]
        field.extend(entries)
    return part


def _in_graph_order(model: ModelProto, names: Sequence[str], shapes: Mapping[str, Shape], graph: Path) -> list[str]:
    order = {output: index for index, node in enumerate(model.graph.node) for output in node.output}
    if unknown := [name for name in names if name not in order]:
        raise GraphError(f"observing {graph}: it has no tensor {unknown[0]!r}. Take names from its layers.")
    if unsized := [name for name in names if name not in shapes]:
        raise GraphError(
            f"observing {graph}: the shape of {unsized[0]} cannot be inferred from the inputs' shapes; leave that"
            " layer in float."
        )
    return sorted(names, key=order.__getitem__)


CURE = "Such a network cannot be quantized: check it with `idm-deploy verify` and its pictures with `idm-deploy infer`."
"""The advice at the end of errors about values that are not numbers."""


def not_finite_error(graph: Path, feeds: Mapping[str, Array], where: str) -> StatisticsError:
    """What to raise where the noise that was predicted from these inputs is not finite: it names the first layer to
    blame.
    """
    node = first_not_finite(graph, feeds)
    culprit = "every layer's output is" if node is None else f"the output of {node!r} is not, the first of all layers"
    return StatisticsError(
        f"recording what the network is fed, {where}: its prediction is not finite; {culprit}. {CURE}"
    )


def first_not_finite(graph: Path, feeds: Mapping[str, Array]) -> str | None:
    """The first node in the graph's order whose output is not finite for these inputs; None if there is none."""
    nodes = {layer.output: layer.node for layer in layers_of(read_graph(graph))}
    with Observer(graph, list(nodes), example=feeds) as observer:
        not_finite = {name for name, values in observer.run(feeds) if not np.isfinite(values).all()}
    return next((node for name, node in nodes.items() if name in not_finite), None)
