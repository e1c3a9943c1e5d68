"""Graph files are those that bundle.json describes, with its weights files, or they are not opened."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import ModelProto

from deploy.bundle import Bundle
from deploy.bundle.known import digest_of, trust_in_this_process
from deploy.engine.graph_files import graph_file, int8_graph_file
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError
from deploy.packaged.places import IDM_BUNDLE
from deploy.picture.upscaler import Upscaler
from engines.errors import EngineError


def _with_graph(bundle: Bundle, place: Path, name: str, change: Callable[[ModelProto], None]) -> Bundle:
    """A copy whose graph was changed behind the back of bundle.json, which is not asked for hashes here."""
    copy = replace(bundle, path=Path(shutil.copytree(bundle.path, place / "a.bundle")))
    for form in bundle.manifest.graphs[name].forms:
        path = copy.graph(name, form)
        model = onnx.load(path, load_external_data=False)
        change(model)
        path.write_bytes(model.SerializeToString())
    return copy


def _renamed(model: ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["noisse" if name == "noise" else name for name in node.output]
    model.graph.output[0].name = "noisse"


def _reshaped(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 4


def _looped(model: ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Loop", [], []))


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (_renamed, BundleError, "bundle.json describes: of its outputs, 'noisse' is not described. Copy the bundle"),
        (_reshaped, BundleError, r"of its inputs, 'x' is .*, expected float32 \['batch', 3, 'height', 'width'\]"),
        (_looped, EngineError, "it holds the operator Loop, which this tool does not write"),
    ],
)
def test_another_graph_than_the_described_one_is_not_opened(
    idm_micro: Bundle, tmp_path: Path, change: Callable[[ModelProto], None], error: type[Exception], sentence: str
) -> None:
    bundle = _with_graph(idm_micro, tmp_path, "denoise", change)
    with GraphSet(bundle, EngineChoice()) as graphs, pytest.raises(error, match=sentence):
        graphs.engine("denoise")


def test_weights_come_from_files_that_the_graph_is_said_to_use(idm_micro: Bundle) -> None:
    described = dict(idm_micro.manifest.graphs)
    described["encode"] = msgspec.structs.replace(described["encode"], weights=())
    bundle = replace(idm_micro, manifest=replace(idm_micro.manifest, graphs=described))
    assert graph_file(idm_micro, "encode", "instance").is_file()
    with pytest.raises(EngineError, match=r"it uses the weights file weights-.*\.bin, expected one of "):
        graph_file(bundle, "encode", "instance")


def test_packaged_graphs_are_as_trusted_as_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deploy.engine.graph_files.checked_signature", lambda *_: 1 / 0)
    assert graph_file(Bundle.open(IDM_BUNDLE, verify="sizes"), "encode", "instance").is_file()
    copy = Bundle.open(Path(shutil.copytree(IDM_BUNDLE, tmp_path / "a.bundle")), verify="sizes")
    with pytest.raises(ZeroDivisionError):
        graph_file(copy, "encode", "instance")


def test_an_output_that_is_renamed_in_both_is_a_refusal(idm_micro: Bundle, tmp_path: Path) -> None:
    bundle = _with_graph(idm_micro, tmp_path, "denoise", _renamed)
    described = dict(bundle.manifest.graphs)
    output = msgspec.structs.replace(described["denoise"].outputs[0], name="noisse")
    described["denoise"] = msgspec.structs.replace(described["denoise"], outputs=(output,))
    renamed = replace(bundle, manifest=replace(bundle.manifest, graphs=described))
    trust_in_this_process(digest_of(renamed.manifest))  # its first run would meet the files that are damaged
    pixels = np.zeros((4, 4, 3), np.uint8)
    with Upscaler(renamed, threads=1) as upscaler, pytest.raises(BundleError, match="makes noisse, expected noise too"):
        upscaler.upscale(pixels, scale=2)


@pytest.mark.slow
def test_int8_graphs_are_held_to_their_rows_too(quantized_idm: Bundle) -> None:
    quantization = quantized_idm.manifest.quantization
    assert quantization is not None
    target = next(name for name, record in quantization.targets.items() if record.rows)
    assert int8_graph_file(quantized_idm, target).is_file()
    record = msgspec.structs.replace(quantization.targets[target], rows={})
    manifest = replace(quantized_idm.manifest, quantization=quantization.with_targets({target: record}))
    with pytest.raises(BundleError, match=r"of its inputs, .* is not described"):
        int8_graph_file(replace(quantized_idm, manifest=manifest), target)
