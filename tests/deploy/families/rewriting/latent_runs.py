"""Runs the parts of a latent network one after the other, as a run time would, on arrays."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from deploy.export.onnx_ops import graph_of
from deploy.families.latent.config import FirstStageConfig
from deploy.families.latent.network import LatentNetwork
from deploy.families.rewriting.ops import Part
from deploy.families.rewriting.torch_ops import PartRunner
from deploy.images.coordinates import (
    AxisLookup,
    covered_centres,
    nearest_index,
    relative_cell,
    relative_coordinates,
    shifted_lookup,
)

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Part, Arrays], Arrays]


def weights_of(network: LatentNetwork) -> dict[str, NDArray[Any]]:
    """The network's state dict as arrays."""
    return {name: value.numpy() for name, value in network.state_dict().items()}


def run_in_torch(part: Part, feeds: Arrays) -> Arrays:
    """The part's outputs by PyTorch."""
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    return {name: value.numpy() for name, value in PartRunner(part).run(tensors).items()}


def run_in_onnxruntime(part: Part, feeds: Arrays) -> Arrays:
    """The part's outputs by ONNX Runtime, from the graph that is written for it."""
    model, large = graph_of(part, "group")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for name, value in large.items():
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type = name, 1
        tensor.dims.extend(value.shape)
        tensor.raw_data = np.ascontiguousarray(value).tobytes()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_parts(parts: Sequence[Part], names: Sequence[str], feeds: Mapping[str, NDArray[Any]], run: Run) -> Arrays:
    """`feeds` and the outputs of the named parts, in their order; a part that does not exist is passed over."""
    known = dict(feeds)
    for part in parts:
        if part.name in names:
            known |= run(part, {spec.name: known[spec.name] for spec in part.inputs})
    return known


def decoded(
    parts: Sequence[Part], config: FirstStageConfig, z: NDArray[Any], size: tuple[int, int], run: Run, rows: int
) -> NDArray[Any]:
    """The picture (batch, 3, H, W) of a latent, `rows` output rows per query."""
    features = run_parts(parts, ["decode"], {"z": z}, run)["features"]
    blocks = []
    for top in range(0, size[0], rows):
        tables = query_tables(config, z.shape[2:], size, slice(top, top + rows))
        blocks.append(run_parts(parts, ["query"], {"features": features, **tables}, run)["colours"])
    return np.concatenate(blocks, axis=2)


def query_tables(config: FirstStageConfig, latent: tuple[int, ...], size: tuple[int, int], rows: slice) -> Arrays:
    """The inputs of `query` besides the features, for some rows of a picture of this size."""
    tables: Arrays = {}
    for axis, count_in, count_out, part in zip(("row", "column"), latent, size, (rows, slice(None)), strict=True):
        for side, lookup in _sides(config, count_in, count_out).items():
            tables[f"{axis}_index{side}"] = lookup.index[part]
            tables[f"{axis}_offset{side}"] = lookup.relative[part]
    if config.cell_decode:
        cells = [relative_cell(count_in, count_out) for count_in, count_out in zip(latent, size, strict=True)]
        tables["cell"] = np.array(cells, dtype=np.float32)
    return tables


def _sides(config: FirstStageConfig, count_in: int, count_out: int) -> dict[str, AxisLookup]:
    if config.local_ensemble:
        lookup = shifted_lookup(count_in, count_out)
        return {"_minus": lookup.minus, "_plus": lookup.plus}
    centres = covered_centres(count_out)
    index = nearest_index(centres, count_in)
    return {"": AxisLookup(index=index, relative=relative_coordinates(centres, index, count_in))}
