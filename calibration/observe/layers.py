"""The layers of a float graph that could run in int8, with their weights and geometry."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from calibration.errors import GraphError
from calibration.observe.covariance import Geometry
from engines.onnx_files.external_tensors import array_of_tensor

CONV: Final = "Conv"
LINEAR: Final = "MatMul"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution, or a product with a constant matrix, of a float graph.

    weight_shape: output channel first, as training code stores it. bias: the name of the bias inside the node; a
    linear layer's bias is a node of its own and not meant here.
    """

    node: str
    kind: str
    input: str
    output: str
    weight: str
    bias: str | None
    weight_shape: tuple[int, ...]
    geometry: Geometry

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.weight_shape[0]

    @property
    def module(self) -> str:
        """The name of the module: the node's name without its operation."""
        return self.node.rsplit("/", 1)[0]

    @property
    def channel_axis(self) -> int:
        """The axis of the output's channels: 1 of a convolution, the last of a linear layer."""
        return 1 if self.kind == CONV else -1

    @property
    def padded(self) -> bool:
        """Whether zeros are added around the input."""
        return any(self.geometry.padding)


def read_graph(path: Path) -> ModelProto:
    """The graph, without the weights that lie in other files."""
    return onnx.load(path, load_external_data=False)


def layers_of(model: ModelProto) -> list[Layer]:
    """All convolutions over images and all products with a constant matrix, in the order of the graph."""
    constants = _constants(model)
    layers = []
    for node in model.graph.node:
        weight = constants.get(node.input[1]) if node.op_type in (CONV, LINEAR) else None
        if weight is None or len(weight.dims) != (4 if node.op_type == CONV else 2):
            continue
        shape = tuple(weight.dims)
        layers.append(_conv(node, shape) if node.op_type == CONV else _linear(node, shape))
    return layers


def readers_of(layers: Iterable[Layer]) -> dict[str, list[Layer]]:
    """Name of a tensor -> the layers that read it."""
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        readers.setdefault(layer.input, []).append(layer)
    return readers


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Every constant by the name it is used under: itself, or what a Cast makes of one stored in half precision."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in constants]
    return constants | {node.output[0]: constants[node.input[0]] for node in casts}


def _conv(node: NodeProto, shape: tuple[int, ...]) -> Layer:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    groups = int(attributes.get("group", 1))
    down, across = attributes.get("strides", (1, 1))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return Layer(
        node=node.name,
        kind=CONV,
        input=node.input[0],
        output=node.output[0],
        weight=node.input[1],
        bias=node.input[2] if len(node.input) > 2 and node.input[2] else None,
        weight_shape=shape,
        geometry=Geometry(
            channels=shape[1] * groups,
            kernel=(shape[2], shape[3]),
            stride=(down, across),
            padding=(top, left, bottom, right),
            groups=groups,
        ),
    )


def _linear(node: NodeProto, shape: tuple[int, ...]) -> Layer:
    features, outputs = shape
    return Layer(
        node=node.name,
        kind=LINEAR,
        input=node.input[0],
        output=node.output[0],
        weight=node.input[1],
        bias=None,
        weight_shape=(outputs, features),
        geometry=Geometry(channels=features),
    )


def weights_of(model: ModelProto, folder: Path, layer: Layer) -> NDArray[np.float32]:
    """The weights of a layer, output channel first."""
    values = constant_of(model, folder, layer.weight)
    return np.ascontiguousarray(values.T) if layer.kind == LINEAR else values


def bias_of(model: ModelProto, folder: Path, layer: Layer) -> NDArray[np.float32]:
    """The bias inside a layer's node; zeros where it has none."""
    if layer.bias is None:
        return np.zeros(layer.outputs, dtype=np.float32)
    return constant_of(model, folder, layer.bias)


def constant_of(model: ModelProto, folder: Path, name: str) -> NDArray[np.float32]:
    """The value of a constant as float32, read from the weights file beside the graph if it lies there."""
    tensor = _constants(model).get(name)
    if tensor is None:
        raise GraphError(f"reading {name} from {folder}: the graph has no constant of that name. Export it again.")
    return np.asarray(array_of_tensor(tensor, folder), dtype=np.float32)


def take_external(model: ModelProto, folder: Path) -> dict[str, NDArray[Any]]:
    """The initializers that lie in a weights file, by name, removed from the model.

    For a bundle without its float graphs: what the int8 graphs still need of the float weights moves to their file.
    """
    external = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    arrays = {tensor.name: array_of_tensor(tensor, folder) for tensor in external}
    internal = [t for t in model.graph.initializer if t.data_location != TensorProto.EXTERNAL]
    del model.graph.initializer[:]
    model.graph.initializer.extend(internal)
    return arrays


def as_map(values: NDArray[Any], layer: Layer) -> NDArray[Any]:
    """A layer's input as (batch, channels, rows, columns); a linear layer's features become channels of one row."""
    if layer.kind != LINEAR:
        return values
    features = np.moveaxis(values, -1, 1)
    return features.reshape(features.shape[0], features.shape[1], 1, -1)
