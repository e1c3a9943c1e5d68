"""The graph files of a bundle, looked at before an engine is given them: they are what bundle.json says of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import deploy
from deploy.bundle import Bundle
from deploy.bundle.records import Graph, Tensor
from deploy.errors import BundleError
from engines.contract import TensorSpec
from engines.onnx_files.graph_file import GraphSignature
from engines.onnx_files.operators import checked_signature

OWN_FOLDER = Path(deploy.__file__).parent
"""Of this package: a bundle in it is as trusted as the code, and looking at it would make the first picture late."""
_CURE = "Copy the bundle here again, or export the checkpoint again"


def graph_file(bundle: Bundle, name: str, form: str) -> Path:
    """The file of one form of one graph."""
    path = bundle.graph(name, form)
    described = bundle.manifest.graphs[name]
    _check(path, described, described.weights, ())
    return path


def int8_graph_file(bundle: Bundle, target: str) -> Path:
    """The file of the int8 denoiser of a target, which takes the numbers of its ranges too."""
    quantization = bundle.manifest.quantization
    assert quantization is not None  # whoever asks has looked for the target
    record = quantization.targets[target]
    path = bundle.file(record.graph)
    _check(path, bundle.manifest.graphs.get("denoise"), record.weights, tuple(record.rows))
    return path


def int8_decoder_graph(bundle: Bundle, target: str, name: str) -> Path | None:
    """The int8 form of a graph of the latent decoder; None where it stays in float."""
    record = None if bundle.manifest.quantization is None else bundle.manifest.quantization.targets.get(target)
    if record is None or record.decoder is None or name not in record.decoder.graphs:
        return None
    path = bundle.file(record.decoder.graphs[name])
    _check(path, bundle.manifest.graphs.get(name), record.decoder.weights, ())
    return path


def _check(path: Path, described: Graph | None, weights: Collection[str], rows: Sequence[str]) -> None:
    """described: None of a graph whose float form is not in the bundle. rows: inputs that only its int8 form has."""
    if path.is_relative_to(OWN_FOLDER):
        return
    state = path.stat()
    signature = _signature(path, tuple(weights), state.st_size, state.st_mtime_ns)
    if described is None:
        return
    sides = (
        ("inputs", signature.inputs, described.inputs, rows),
        ("outputs", signature.outputs, described.outputs, ()),
    )
    for side, specs, tensors, more in sides:
        problem = next(_differences({spec.name: spec for spec in specs}, tensors, more), None)
        if problem is not None:
            raise BundleError(f"{path} is not the graph that bundle.json describes: of its {side}, {problem}. {_CURE}.")


@lru_cache(maxsize=64)
def _signature(path: Path, weights: tuple[str, ...], size: int, changed_ns: int) -> GraphSignature:
    """Remembered while the file stays as it is."""
    del size, changed_ns
    return checked_signature(path, weights)


def _differences(specs: Mapping[str, TensorSpec], described: Sequence[Tensor], more: Sequence[str]) -> Iterator[str]:
    told = {tensor.name: tensor for tensor in described}
    for name in specs:
        if name not in told and name not in more:
            yield f"{name!r} is not described"
    for name in more:
        if name not in specs:
            yield f"{name!r} is missing"
    for name, tensor in told.items():
        if name not in specs:
            yield f"{name!r} is missing"
        elif (specs[name].dtype, tuple(specs[name].shape)) != (tensor.dtype, tensor.shape):
            yield f"{name!r} is {specs[name]}, expected {tensor.dtype} {list(tensor.shape)}"
