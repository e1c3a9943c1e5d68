"""Int8 graphs become files of the bundle: those of the denoiser, and of a decoder; all targets share their weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from calibration.choose.recipe import Recipe
from calibration.observe.layers import read_graph
from calibration.targets.editing import Int8Graphs
from calibration.targets.range_rows import RangeRows
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import ConstantFiles, Int8Decoder, Int8Target, RangeFiles
from deploy.engine.graph_files import graph_file
from deploy.errors import BundleError
from deploy.export.onnx_ops import attach_weights
from deploy.export.weights_file import ALIGNMENT, Place, places_of, write_tensors
from engines.arrays import Array
from engines.backends import BACKENDS, DEFAULT_BACKEND
from engines.onnx_files.operators import refuse_unknown_parts


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetGraphs:
    """The int8 graph of a target, and the edges of its ranges."""

    target: str
    edges: tuple[float, ...]
    graphs: Int8Graphs


def graphs_of_target(bundle: Bundle, target: str, recipe: Recipe, edges: Sequence[float]) -> TargetGraphs:
    """What `recipe` makes of the bundle's float denoiser."""
    record = target_named(target)
    path = graph_file(bundle, "denoise", record.norm)
    return TargetGraphs(target=target, edges=tuple(edges), graphs=record.writer(read_graph(path), path.parent, recipe))


def calibrated_graph(bundle: Bundle, name: str) -> Path:
    """The float graph that is recorded and observed: as the reference backend runs it."""
    return graph_file(bundle, name, BACKENDS[DEFAULT_BACKEND].norm)


def write_targets(writer: BundleWriter, made: Sequence[TargetGraphs], weights: Sequence[str]) -> dict[str, Int8Target]:
    """Writes the targets' graphs into the bundle; returned is what its manifest says of each target.

    weights: files that the float denoiser needs, which what stays in float needs too.
    """
    places, file = write_packed(writer, "int8", merged_tensors(target.graphs.tensors for target in made))
    return {target.target: _write_target(writer, target, places, file, weights) for target in made}


def merged_tensors(parts: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """All tensors by name; what several graphs share stands once. Refuses different tensors of one name."""
    merged: dict[str, Array] = {}
    for part in parts:
        for name, tensor in part.items():
            first = merged.setdefault(name, tensor)
            # Bytes, so that tensors are the same if they hold the same NaN, and 0 is not -0.
            if first is not tensor and (_kind(first) != _kind(tensor) or first.tobytes() != tensor.tobytes()):
                raise BundleError(
                    f"storing the tensors of several graphs: {name} is {_kind(first)} in one and {_kind(tensor)} with"
                    " other values in another, where one tensor for both was expected. Report this as a bug."
                )
    return merged


def _kind(tensor: Array) -> str:
    return f"{tensor.dtype.name} of shape {tensor.shape}"


def write_packed(writer: BundleWriter, stem: str, tensors: Mapping[str, Array]) -> tuple[dict[str, Place], str]:
    """Where the tensors lie in a new file, and its name.

    Hundreds of scales and biases come first, one after another: with a page for each they took a quarter of the demo's
    file.
    """
    ordered = dict(sorted(tensors.items(), key=lambda item: item[1].nbytes >= ALIGNMENT))
    places = places_of(ordered, small_bytes=ALIGNMENT)
    with writer.open_file(stem, "bin") as stream:
        for _ in write_tensors(stream, ordered, places):
            pass
    return places, stream.name


def _write_target(
    writer: BundleWriter, target: TargetGraphs, places: Mapping[str, Place], int8_file: str, weights: Sequence[str]
) -> Int8Target:
    graph = _with_tensors(target.graphs.model, places, int8_file)
    return Int8Target(
        graph=writer.add_bytes(f"denoise-int8-{target.target}", "onnx", graph),
        edges=target.edges,
        rows={row.input: _files(writer, row) for row in target.graphs.rows},
        constants={
            constants.rows.input: ConstantFiles(names=constants.names, rows=_files(writer, constants.rows))
            for constants in target.graphs.constants
        },
        weights=(*weights, int8_file),
        noise_corrections=(),
    )


def _files(writer: BundleWriter, rows: RangeRows) -> RangeFiles:
    """The files of the rows' arrays."""
    arrays = rows.to_arrays().items()
    return RangeFiles(**{key: writer.add_array(f"{rows.input}-{key}", np.asarray(array)) for key, array in arrays})


GraphsOfTarget = Mapping[str, Int8Graphs]
"""`decode`, `query` or both; what is absent stays in float."""


def write_decoder(writer: BundleWriter, bundle: Bundle, made: Mapping[str, GraphsOfTarget]) -> dict[str, Int8Decoder]:
    """Writes the decoder's graphs, all targets on one file of weights; returned is what the bundle's manifest says."""
    tensors = merged_tensors(graph.tensors for graphs in made.values() for graph in graphs.values())
    if not tensors:
        return {target: Int8Decoder(graphs={}, weights=()) for target in made}
    places, int8_file = write_packed(writer, "int8-decoder", tensors)
    described = {}
    for target, graphs in made.items():
        files, weights = {}, {int8_file} if graphs else set()
        for name, graph in graphs.items():
            weights |= set(bundle.manifest.graphs[name].weights)
            files[name] = writer.add_bytes(
                f"{name}-int8-{target}", "onnx", _with_tensors(graph.model, places, int8_file)
            )
        described[target] = Int8Decoder(graphs=files, weights=tuple(sorted(weights)))
    return described


def _with_tensors(model: ModelProto, places: Mapping[str, Place], location: str) -> bytes:
    """A copy of the model with initializers that point into the file: a graph may be written more than once."""
    whole = ModelProto()
    whole.CopyFrom(model)
    names = {name for node in model.graph.node for name in node.input}
    attach_weights(whole, location, {name: place for name, place in places.items() if name in names})
    serialized: bytes = whole.SerializeToString(deterministic=True)
    refuse_unknown_parts(location, serialized)
    return serialized
