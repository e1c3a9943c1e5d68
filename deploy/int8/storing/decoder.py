"""The decoder's int8 graphs become files of the bundle, beside those of the denoiser."""

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto

from calibration.targets.editing import Int8Graphs
from deploy.bundle import Bundle, BundleWriter
from deploy.engine.int8_decoder import KEY
from deploy.export.onnx_ops import attach_weights
from deploy.export.weights_file import Place
from deploy.int8.storing.storing import merged_tensors, write_packed

GraphsOfTarget = Mapping[str, Int8Graphs]
"""`decode`, `query` or both; what is absent stays in float."""


def write_decoder(writer: BundleWriter, bundle: Bundle, made: Mapping[str, GraphsOfTarget]) -> dict[str, Any]:
    """Everything is in the bundle, all targets on one file of int8 weights; returned is what the manifest says."""
    tensors = merged_tensors(one.tensors for graphs in made.values() for one in graphs.values())
    if not tensors:
        return {target: {"graphs": {}, "weights": []} for target in made}
    places, int8_file = write_packed(writer, "int8-decoder", tensors)
    told = {}
    for target, graphs in made.items():
        files, weights = {}, {int8_file} if graphs else set()
        for name, one in graphs.items():
            weights |= set(bundle.manifest.graphs[name]["weights"])
            files[name] = writer.add_bytes(f"{name}-int8-{target}", "onnx", _with_tensors(one.model, places, int8_file))
        told[target] = {"graphs": files, "weights": sorted(weights)}
    return told


def _with_tensors(model: ModelProto, places: Mapping[str, Place], location: str) -> bytes:
    """The model is left as it was: a graph may be written more than once."""
    whole = ModelProto()
    whole.CopyFrom(model)
    used = {name for node in model.graph.node for name in node.input}
    attach_weights(whole, location, {name: place for name, place in places.items() if name in used})
    serialized: bytes = whole.SerializeToString(deterministic=True)
    return serialized


def decoder_files(told: Mapping[str, Any]) -> list[str]:
    """The decoder graphs that the manifest's entry of a target names."""
    return sorted(told.get(KEY, {}).get("graphs", {}).values())


def with_renamed_decoder(told: Mapping[str, Any], renamed: Mapping[str, str], weights: str) -> dict[str, Any]:
    """The entry of a target with its decoder graphs under new names, all pointing into one file of weights."""
    if KEY not in told:
        return dict(told)
    graphs = {name: renamed[file] for name, file in told[KEY]["graphs"].items()}
    return {**told, KEY: {**told[KEY], "graphs": graphs, "weights": [weights] if graphs else []}}
