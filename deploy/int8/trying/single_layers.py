"""The predicted noise with one layer in int8, for the ranking of layers, without running the whole network for each.

What lies before a layer does not depend on it. So the float graph is observed once for many layers, and for each of
them only the part that follows from it is opened and run, fed with what was observed. On average that is half of the
network, and half of the time that opening it takes. The parts run on ONNX Runtime, whatever engine the target is for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.choose.recipe import Recipe
from calibration.lanes import lanes_for
from calibration.observe.layers import read_graph
from calibration.observe.observer import Observer, Shape, tensor_shapes
from calibration.passes.inputs import DenoiserInput
from calibration.targets.editing import Int8Graphs
from calibration.targets.table import target_named
from engines.backends import DEFAULT_BACKEND, open_engine
from engines.saturation import constants_without_saturation

Array = NDArray[Any]

MOST_BYTES: Final = 1 << 28
"""Of observed tensors held at a time, for all inputs together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The nodes that follow from one node of a graph, itself included. observed: tensors of the graph that it reads."""

    model: ModelProto
    observed: tuple[str, ...]


class SingleLayers:
    """Predictions with one layer in int8, for the same few inputs.

    graph: the float denoiser's file, beside which the scratch files of the parts are made. nodes: the layers, in the
    order of the graph. recipe_of_layer: what int8 makes of a layer. ranges: of each input.
    """

    def __init__(
        self,
        graph: Path,
        target: str,
        nodes: Sequence[str],
        inputs: Sequence[DenoiserInput],
        ranges: Sequence[int],
        recipe_of_layer: Callable[[str], Recipe],
        threads: int | None,
    ) -> None:
        self._graph = graph
        self._writer = target_named(target).writer
        self._nodes = list(nodes)
        self._inputs = inputs
        self._ranges = ranges
        self._recipe_of_layer = recipe_of_layer
        self._lanes = lanes_for(threads)
        self._model = read_graph(graph)
        self._shapes = tensor_shapes(self._model, {name: one.shape for name, one in inputs[0].feeds.items()})
        self._floats = float_tensors(self._model)
        self._parts: dict[str, Part] = {}
        self._observed: list[dict[str, Array]] = []

    def predictions(self) -> Iterator[list[NDArray[np.float32]]]:
        """For one layer in int8 after another, the noise that each input leads to."""
        left = self._nodes
        while left:
            self._observe(left)
            yield from self._lanes.each(self._predict, list(self._parts))
            left = left[len(self._parts) :]

    def _predict(self, node: str) -> list[NDArray[np.float32]]:
        part = self._parts[node]
        graphs = self._writer(part.model, self._graph.parent, self._recipe_of_layer(node))
        path = self._graph.with_name(f"part-{self._nodes.index(node)}.onnx")
        path.write_bytes(_with_its_tensors(graphs).SerializeToString())
        predicted: dict[int, NDArray[np.float32]] = {}
        try:
            for index in sorted(set(self._ranges)):
                members = [number for number, found in enumerate(self._ranges) if found == index]
                predicted |= self._run(path, graphs, index, members)
        finally:
            path.unlink()
        return [predicted[number] for number in range(len(self._inputs))]

    def _observe(self, nodes: Sequence[str]) -> None:
        """The parts of the next layers, and what all of them read, as many as fit into the memory."""
        wanted: dict[str, None] = {}
        self._parts, self._observed = {}, []
        for node in nodes:
            part = part_from(self._model, node, self._floats, self._shapes)
            more = wanted | dict.fromkeys(part.observed)
            size = 4 * len(self._inputs) * sum(prod(self._shapes[name]) for name in more)
            if self._parts and size > MOST_BYTES:
                break
            self._parts[node], wanted = part, more
        lanes = self._lanes
        with Observer(self._graph, wanted, example=self._inputs[0].feeds, threads=lanes.threads) as observer:
            self._observed = list(lanes.each(lambda one: dict(observer.run(one.feeds)), self._inputs))

    def _run(
        self, path: Path, graphs: Int8Graphs, index: int, members: Sequence[int]
    ) -> dict[int, NDArray[np.float32]]:
        """The predictions for those inputs that lie in one range."""
        constants = {name: value for one in graphs.constants for name, value in one.in_range(index).items()}
        constants |= constants_without_saturation(path, DEFAULT_BACKEND)
        rows = {row.input: row.row(index) for row in graphs.rows}
        with open_engine(path, backend=DEFAULT_BACKEND, threads=self._lanes.threads, constants=constants) as engine:
            names = [spec.name for spec in engine.inputs]
            feeds = [{**self._inputs[number].feeds, **self._observed[number], **rows} for number in members]
            return {
                number: engine.run({name: fed[name] for name in names})["noise"]
                for number, fed in zip(members, feeds, strict=True)
            }


def float_tensors(model: ModelProto) -> frozenset[str]:
    """The inner tensors that hold float32 values."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return frozenset(
        entry.name for entry in inferred.graph.value_info if entry.type.tensor_type.elem_type == TensorProto.FLOAT
    )


def part_from(model: ModelProto, node: str, floats: frozenset[str], shapes: Mapping[str, Shape]) -> Part:
    """The node of that name, what follows from it, and what makes the constants and sizes that these need."""
    graph = model.graph
    at = next(index for index, one in enumerate(graph.node) if one.name == node)
    changed = set(graph.node[at].output)
    following = [graph.node[at]]
    for one in list(graph.node)[at + 1 :]:
        if changed.intersection(one.input):
            following.append(one)
            changed |= set(one.output)
    given = {entry.name for entry in graph.input} | {tensor.name for tensor in graph.initializer}
    constant = _constants(model)
    makers = {output: one for one in graph.node for output in one.output}
    kept = {one.name for one in following}
    observed: dict[str, None] = {}
    waiting = [name for one in following for name in one.input if name]
    while waiting:
        name = waiting.pop()
        if name in changed or name in given or name in observed:
            continue
        if name in floats and name not in constant:
            observed[name] = None
        elif makers[name].name not in kept:
            kept.add(makers[name].name)
            waiting += [one for one in makers[name].input if one]
    nodes = [one for one in graph.node if one.name in kept]
    names = tuple(sorted(observed))
    return Part(model=_cut(model, nodes, {name: len(shapes[name]) for name in names}), observed=names)


def _constants(model: ModelProto) -> set[str]:
    """Tensors that depend on no input."""
    constant = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in constant for name in node.input if name):
            constant |= set(node.output)
    return constant


def _cut(model: ModelProto, nodes: Sequence[NodeProto], ranks: Mapping[str, int]) -> ModelProto:
    """A model of these nodes; ranks: the numbers of axes of tensors that become inputs."""
    used = {name for node in nodes for name in node.input}
    part = ModelProto()
    part.CopyFrom(model)
    fed = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name, rank in ranks.items()]
    for kept, whole in (
        (list(nodes), part.graph.node),
        ([*(entry for entry in model.graph.input if entry.name in used), *fed], part.graph.input),
        ([tensor for tensor in model.graph.initializer if tensor.name in used], part.graph.initializer),
        ([], part.graph.value_info),
    ):
        del whole[:]
        whole.extend(kept)
    return part


def _with_its_tensors(graphs: Int8Graphs) -> ModelProto:
    """The model, its large tensors inside it."""
    used = {name for node in graphs.model.graph.node for name in node.input}
    for name, tensor in graphs.tensors.items():
        if name in used:
            graphs.model.graph.initializer.append(numpy_helper.from_array(np.asarray(tensor), name))
    return graphs.model
