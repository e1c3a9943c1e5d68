"""How many multiply-accumulates each layer of a graph makes for given inputs."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

from calibration.observe.layers import layers_of, read_graph
from calibration.observe.observer import Shape, tensor_shapes


def multiplications_of(graph: Path, inputs: Mapping[str, Shape]) -> dict[str, float]:
    """Per node, output values times what each is summed over."""
    model = read_graph(graph)
    shapes = tensor_shapes(model, inputs)
    counted = {}
    for layer in layers_of(model):
        counted[layer.node] = float(prod(shapes[layer.output]) * prod(layer.weight_shape[1:]))
    return counted
