"""Small ONNX graphs for the tests of the engines, with their results by NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper, numpy_helper

Array = NDArray[Any]


def write_model(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: dict[str, Array] | None = None,
    external: str | None = None,
) -> Path:
    """`path`, an ONNX file (opset 18) whose initializers lie in the file `external` beside it if that is given."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (initializers or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if external is None:
        onnx.save(model, path)
    else:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    return path


def value(name: str, kind: int, *shape: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def write_lookup(folder: Path, channels: int = 4, external: str | None = "weights.bin") -> Path:
    """features = weight applied to every pixel of x (a 1x1 convolution), picked = its rows `index`, times `gain`."""
    weight = lookup_weight(channels)
    return write_model(
        folder / "lookup.onnx",
        [
            helper.make_node("Conv", ["x", "weight"], ["features"]),
            helper.make_node("Gather", ["features", "index"], ["rows"], axis=2),
            helper.make_node("Mul", ["rows", "gain"], ["picked"]),
        ],
        [
            value("x", T.FLOAT, "batch", channels, "height", "width"),
            value("index", T.INT64, "rows"),
            value("gain", T.FLOAT),
        ],
        [
            value("picked", T.FLOAT, "batch", channels, "rows", "width"),
            value("features", T.FLOAT, "batch", channels, "height", "width"),
        ],
        {"weight": weight},
        external,
    )


def lookup_weight(channels: int = 4) -> Array:
    random = np.random.default_rng(7)
    return random.standard_normal((channels, channels, 1, 1)).astype(np.float32) / np.float32(channels**0.5)


def lookup_feeds(batch: int = 2, height: int = 5, width: int = 6, channels: int = 4) -> dict[str, Array]:
    random = np.random.default_rng(height * 100 + width)
    return {
        "x": random.standard_normal((batch, channels, height, width)).astype(np.float32),
        "index": np.array([0, 0, height - 1, 1], np.int64),
        "gain": np.array(0.5, np.float32),
    }


def lookup_results(feeds: dict[str, Array]) -> dict[str, Array]:
    """What `write_lookup` computes, by NumPy in float64."""
    weight = lookup_weight(feeds["x"].shape[1])[:, :, 0, 0].astype(np.float64)
    features = np.einsum("oi,bihw->bohw", weight, feeds["x"])
    return {"picked": features[:, :, feeds["index"]] * feeds["gain"], "features": features}
