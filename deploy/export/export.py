"""A checkpoint becomes a bundle: rewritten, written as ONNX graphs that share one weights file."""

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.observe.layers import layers_of
from deploy.bundle import Bundle, BundleWriter, Manifest
from deploy.bundle.checks import NEWEST_OPSET
from deploy.bundle.records import Graph, Preset, Scales, Source, Tensor
from deploy.checkpoint.load import Checkpoint
from deploy.checkpoint.quantizer_scales import TABLE, activation_amax, amax_of_layers, table_from_amax
from deploy.errors import ConfigError
from deploy.export.onnx_ops import NormForm, attach_weights, graph_of
from deploy.export.samples import add_samples, default_samples, read_samples
from deploy.export.weights_file import Place, places_of, write_tensors
from deploy.families.rewriting.ops import Part
from deploy.families.table import family_named
from deploy.packaged.presets import with_packaged_presets
from deploy.sampling.choices import DEFAULT_PRESET
from engines.contract import TensorSpec
from engines.onnx_files.operators import refuse_unknown_parts
from engines.progress import Progress, silent

FORMS: tuple[NormForm, ...] = get_args(NormForm)

PLAIN_PRESETS = {
    "draft": Preset(equation="ddim", steps=10),
    "balanced": Preset(equation="ddim", steps=20),
    "best": Preset(equation="ddim", steps=50),
}
"""What a checkpoint starts with: the published reduced-step equation, nothing searched, no aids. `idm-deploy schedule`
measures better ones and stores them. Of the packaged models they were measured."""


def export_bundle(
    checkpoint: Checkpoint,
    path: Path,
    *,
    without: Iterable[str] = (),
    samples: Iterable[Path] = (),
    compact: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """The bundle at `path`: every graph in every form, the schedule, the configuration and the sample images.

    `without` names rewrites to leave out. `samples` are pictures to put in; packaged ones if none are named. `compact`
    stores weights that fp16 holds exactly in two bytes, which are most of an fp16 checkpoint's; the graphs compute with
    the same float32 numbers. Everything that can be refused is refused before the first byte is written.
    """
    rewrites = chosen_rewrites(checkpoint.family, without)
    pictures = read_samples(samples) or default_samples(checkpoint.scale_range)
    with BundleWriter.create(path, force=force) as writer:
        progress("rewriting", 0.0)
        parts = parts_of(checkpoint, rewrites)
        graphs, tensors = _graphs_and_tensors(parts, checkpoint, rewrites, compact)
        places = places_of(tensors)
        total = sum(place.length for place in places.values())
        writer.reserve_space(total + total // 50 + (16 << 20))
        weights = _write_weights(writer, tensors, places, total, progress)
        described = _write_graphs(writer, parts, graphs, places, weights)
        names = add_samples(writer, pictures)
        tables = _write_checkpoint_scales(writer, checkpoint, graphs)
        progress("hashing the checkpoint", 1.0)
        return writer.commit(_manifest(checkpoint, rewrites, described, names, tables))


def default_path(checkpoint: Path) -> Path:
    """./<stem>.bundle, where a checkpoint is exported unless told otherwise; of a folder, ./<name>.bundle."""
    return Path(f"{checkpoint.resolve().name if checkpoint.is_dir() else checkpoint.stem}.bundle")


def chosen_rewrites(family: str, without: Iterable[str]) -> frozenset[str]:
    """All rewrites of the family but those named; an unknown name is refused."""
    rewrites = family_named(family).rewrites
    left_out = frozenset(without)
    if unknown := sorted(left_out - set(rewrites)):
        raise ConfigError(
            f"there is no rewrite {unknown[0]!r} for the {family} family; known are {', '.join(rewrites)}. "
            "Name one of these after --no-rewrite."
        )
    return frozenset(rewrites) - left_out


def parts_of(checkpoint: Checkpoint, chosen: frozenset[str]) -> list[Part]:
    """The rewritten graphs of a checkpoint. The weights stay views of the checkpoint's memory where possible."""
    weights = {name: tensor.numpy() for name, tensor in checkpoint.network.state_dict().items()}
    return family_named(checkpoint.family).graphs(checkpoint.config, weights, chosen)


Graphs = dict[tuple[str, NormForm], tuple[onnx.ModelProto, list[str]]]


def _graphs_and_tensors(
    parts: list[Part], checkpoint: Checkpoint, chosen: frozenset[str], compact: bool
) -> tuple[Graphs, dict[str, NDArray[Any]]]:
    """Every graph with the names of the tensors it needs, and all tensors once, in order of first use."""
    graphs: Graphs = {}
    tensors: dict[str, NDArray[Any]] = {}
    for part in parts:
        for form in FORMS:
            model, large = graph_of(part, form, compact=compact)
            graphs[part.name, form] = (model, list(large))
            tensors |= large
        tensors |= {name: np.asarray(part.weights[name]) for name in part.extra}
    if "drop-unused" not in chosen:
        tensors |= checkpoint.unused_tensors()
    return graphs, tensors


def _write_weights(
    writer: BundleWriter,
    tensors: Mapping[str, NDArray[Any]],
    places: Mapping[str, Place],
    total: int,
    progress: Progress,
) -> str:
    bytes_written = 0
    with writer.open_file("weights", "bin") as stream:
        for length in write_tensors(stream, tensors, places):
            bytes_written += length
            progress("writing weights", bytes_written / max(total, 1))
    return stream.name


def _write_graphs(
    writer: BundleWriter, parts: list[Part], graphs: Graphs, places: Mapping[str, Place], weights: str
) -> dict[str, Graph]:
    """The manifest's entry of every graph. A graph without normalisation is one file under both forms."""
    described = {}
    for part in parts:
        forms: dict[str, str] = {}
        for form in FORMS:
            model, names = graphs[part.name, form]
            attach_weights(model, weights, {name: places[name] for name in names})
            content = model.SerializeToString(deterministic=True)
            refuse_unknown_parts(part.name, content)
            forms[form] = writer.add_bytes(part.name, "onnx", content)
        described[part.name] = Graph(
            forms=forms,
            inputs=tuple(_tensor_of(spec) for spec in part.inputs),
            outputs=tuple(_tensor_of(spec) for spec in part.outputs),
            weights=(weights,),
        )
    return described


def _write_checkpoint_scales(writer: BundleWriter, checkpoint: Checkpoint, graphs: Graphs) -> dict[str, str]:
    """The activation scales that the checkpoint has for layers of the denoiser, as a table; no table without any."""
    denoiser, _ = graphs["denoise", FORMS[0]]
    amax = amax_of_layers(layers_of(denoiser), activation_amax(checkpoint.stored))
    return {TABLE: writer.add_array("checkpoint-amax", table_from_amax(amax))} if amax else {}


def _tensor_of(spec: TensorSpec) -> Tensor:
    return Tensor(name=spec.name, dtype=spec.dtype, shape=tuple(spec.shape))


def _manifest(
    checkpoint: Checkpoint,
    chosen: frozenset[str],
    graphs: dict[str, Graph],
    samples: tuple[str, ...],
    tables: dict[str, str],
) -> Manifest:
    manifest = Manifest(
        family=checkpoint.family,
        weights=checkpoint.weights,
        configuration=checkpoint.configuration,
        value_range=checkpoint.value_range,
        scale_range=Scales(trained=checkpoint.scale_range),
        schedule=checkpoint.schedule.as_record(),
        rewrites=tuple(sorted(chosen)),
        opset=NEWEST_OPSET,
        graphs=graphs,
        tables=tables,
        presets=PLAIN_PRESETS,
        default_preset=DEFAULT_PRESET,
        source=Source(
            file=checkpoint.path.name or checkpoint.path.resolve().name,
            sha256=checkpoint.sha256,
            bytes=checkpoint.size,
        ),
        samples=samples,
        libraries={name: importlib.metadata.version(name) for name in ("numpy", "onnx")},
    )
    return with_packaged_presets(manifest)
