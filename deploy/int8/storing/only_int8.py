"""A bundle without its float denoiser: for whoever ships int8 alone."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from msgspec.structs import replace as changed
from onnx import ModelProto

from calibration.observe.layers import read_graph, take_external
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import Int8Decoder, Int8Target
from deploy.bundle.records import Graph
from deploy.errors import BundleError
from deploy.export.onnx_ops import attach_weights
from deploy.export.weights_file import Place
from deploy.int8.storing.storing import merged_tensors, write_packed
from engines.arrays import Array


def without_float_denoiser(bundle: Bundle) -> Bundle:
    """The bundle in place, its float denoiser gone: one new weights file holds what the other graphs still need."""
    quantization = bundle.manifest.quantization
    if quantization is None:
        raise BundleError(f"{bundle.path} has no int8 graphs to keep instead of the float ones. Quantize it first.")
    others = {name: entry for name, entry in bundle.manifest.graphs.items() if name != "denoise"}
    files = {file for entry in others.values() for file in entry.forms.values()}
    files |= {file for target in quantization.targets.values() for file in target.graphs}
    models: dict[str, ModelProto] = {name: read_graph(bundle.file(name)) for name in sorted(files)}
    names_of: dict[str, list[str]] = {}
    tensors = merged_tensors(_taken(models, bundle, names_of))
    with BundleWriter.update(bundle) as writer:
        places, weights = write_packed(writer, "weights", tensors)
        renamed = {
            name: _stored(writer, name, model, {key: places[key] for key in names_of[name]}, weights)
            for name, model in models.items()
        }
        targets = {name: moved_target(target, renamed, weights) for name, target in quantization.targets.items()}
        graphs = {name: _renamed(entry, renamed, weights) for name, entry in others.items()}
        return writer.commit(replace(bundle.manifest, graphs=graphs, quantization=quantization.with_targets(targets)))


def _taken(
    models: Mapping[str, ModelProto], bundle: Bundle, needed: dict[str, list[str]]
) -> Iterator[dict[str, Array]]:
    """The stored tensors of one graph after the other, so that what graphs share is held once; `needed` gets names."""
    for name, model in models.items():
        tensors = take_external(model, bundle.path)
        needed[name] = list(tensors)
        yield tensors


def _stored(writer: BundleWriter, name: str, model: ModelProto, places: Mapping[str, Place], weights: str) -> str:
    """The new name of a graph that points into the new file."""
    attach_weights(model, weights, places)
    return writer.add_bytes(name.rsplit("-", 1)[0], "onnx", model.SerializeToString(deterministic=True))


def moved_target(target: Int8Target, renamed: Mapping[str, str], weights: str) -> Int8Target:
    """The target with its graphs under their new names, all of which point into one file of weights."""
    decoder = target.decoder
    if decoder is not None and decoder.graphs:
        graphs = {name: renamed[file] for name, file in decoder.graphs.items()}
        decoder = Int8Decoder(graphs=graphs, weights=(weights,))
    return changed(target, graph=renamed[target.graph], weights=(weights,), decoder=decoder)


def _renamed(entry: Graph, renamed: Mapping[str, str], weights: str) -> Graph:
    return changed(entry, forms={form: renamed[file] for form, file in entry.forms.items()}, weights=(weights,))


def bytes_of_graphs(bundle: Bundle, names: list[str]) -> int:
    """Bytes of the weights that the named graph files use, each tensor once."""
    tensors: dict[str, int] = {}
    for name in names:
        weights = take_external(read_graph(bundle.file(name)), bundle.path)
        tensors |= {key: int(np.asarray(value).nbytes) for key, value in weights.items()}
    return sum(tensors.values())
