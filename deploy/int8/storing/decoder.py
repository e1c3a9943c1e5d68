"""The decoder's int8 graphs become files of the bundle, beside those of the denoiser."""

from collections.abc import Mapping

from onnx import ModelProto

from calibration.targets.editing import Int8Graphs
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.quantization import Int8Decoder
from deploy.export.onnx_ops import attach_weights
from deploy.export.weights_file import Place
from deploy.int8.storing.storing import merged_tensors, write_packed

GraphsOfTarget = Mapping[str, Int8Graphs]
"""`decode`, `query` or both; what is absent stays in float."""


def write_decoder(writer: BundleWriter, bundle: Bundle, made: Mapping[str, GraphsOfTarget]) -> dict[str, Int8Decoder]:
    """Everything is in the bundle, all targets on one file of int8 weights; returned is what the manifest says."""
    tensors = merged_tensors(one.tensors for graphs in made.values() for one in graphs.values())
    if not tensors:
        return {target: Int8Decoder(graphs={}, weights=()) for target in made}
    places, int8_file = write_packed(writer, "int8-decoder", tensors)
    told = {}
    for target, graphs in made.items():
        files, weights = {}, {int8_file} if graphs else set()
        for name, one in graphs.items():
            weights |= set(bundle.manifest.graphs[name]["weights"])
            files[name] = writer.add_bytes(f"{name}-int8-{target}", "onnx", _with_tensors(one.model, places, int8_file))
        told[target] = Int8Decoder(graphs=files, weights=tuple(sorted(weights)))
    return told


def _with_tensors(model: ModelProto, places: Mapping[str, Place], location: str) -> bytes:
    """The model is left as it was: a graph may be written more than once."""
    whole = ModelProto()
    whole.CopyFrom(model)
    used = {name for node in model.graph.node for name in node.input}
    attach_weights(whole, location, {name: place for name, place in places.items() if name in used})
    serialized: bytes = whole.SerializeToString(deterministic=True)
    return serialized
