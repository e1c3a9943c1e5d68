"""`idm-deploy inspect`: what a checkpoint holds and how it was understood."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deploy.cli.models import NamesModel
from deploy.cli.options import CHECKPOINT, ENGINE, FIRST, Config, Json
from deploy.cli.tables import plain_console, table_of_facts, table_of_rows
from deploy.cli.values import cells_of_candidates, name_of_candidate

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.bundle import Bundle, Manifest
    from deploy.bundle.fitted import FittedEquation
    from deploy.bundle.quantization import Quantization
    from deploy.bundle.records import ConfiguredValue, Graph, Tensor
    from deploy.checkpoint.load import Checkpoint

Record = dict[str, Any]

FIGURES_OF_INT8 = {"fidelity_db": 1, "worst_db": 1, "psnr_drop": 3}
"""What `quantize` measured on held-out pictures, in the order shown, and decimals."""

EXAMPLES = (
    "idm-deploy inspect ckpt.pt",
    "idm-deploy inspect ckpt.bundle",
)


def inspect(
    file: Annotated[
        Path,
        typer.Argument(help="A checkpoint (.pt, .pth, .ckpt, .safetensors, diffusers folder) or a bundle."),
        NamesModel(),
    ],
    sha256: Annotated[
        bool, FIRST("Of a checkpoint: show the SHA-256 of the file too, which reads all of it.", "--sha256")
    ] = False,
    config: Config = None,
    weights: Annotated[
        Literal["raw", "ema"] | None,
        CHECKPOINT(
            "Which of the checkpoint's weights: raw, as published inference uses them, or ema, their moving average. "
            "If left out, raw."
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        ENGINE("Of a bundle: the cache in which to look for what build-engine chose. If left out, the user's."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint or bundle is: family, configuration and its sources, schedule, sizes, the engine."""
    from deploy.checkpoint.folders import holds_pipeline

    if file.is_dir() and not holds_pipeline(file):
        if config is not None or weights is not None or sha256:
            raise typer.BadParameter(
                f"{file} is a folder, a bundle's; --config, --weights and --sha256 are for checkpoint files."
            )
        record, tables = _bundle(file, cache_dir)
    else:
        if cache_dir is not None:
            raise typer.BadParameter(f"{file} is a checkpoint; --cache-dir is for a bundle, whose engine was chosen.")
        record, tables = _checkpoint(file, config, weights or "raw", sha256)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    console = plain_console()
    for table in tables:
        console.print(table)


def _checkpoint(
    file: Path, config: Path | None, weights: Literal["raw", "ema"], sha256: bool
) -> tuple[Record, Iterator[Table]]:
    from deploy.checkpoint.load import load_checkpoint

    loaded = load_checkpoint(file, config=config, weights=weights)
    record = checkpoint_record(loaded) | ({"sha256": loaded.sha256} if sha256 else {})
    return record, _tables_of_checkpoint(loaded, record)


def _bundle(folder: Path, cache_dir: Path | None) -> tuple[Record, Iterator[Table]]:
    from deploy.bundle import Bundle

    opened = Bundle.open(folder)
    engine = engine_record(opened, cache_dir)
    return bundle_record(opened) | {"engine": engine}, _tables_of_bundle(opened, engine)


def engine_record(bundle: Bundle, cache_dir: Path | None) -> Record | None:
    """What `build-engine` chose for a bundle on this machine, with its figures; None if it was not asked yet."""
    import msgspec

    from deploy.engine.chosen import newest_decision

    decision = newest_decision(bundle, cache_dir)
    if decision is None:
        return None
    figures, entry = decision.figures, decision.entry
    return {
        **{name: getattr(figures.chosen, name) for name in ("backend", "precision", "around", "normalisation")},
        "why": figures.why,
        "candidates": msgspec.to_builtins(figures.candidates),
        "measured": dict(entry.key),
        "built": entry.built,
    }


def bundle_record(bundle: Bundle) -> Record:
    """Everything that `inspect` tells of a bundle: its bundle.json, and what follows from it."""
    from deploy.sampling.schedule import NoiseSchedule

    manifest = bundle.manifest
    return {
        **manifest.as_json(),
        "path": str(bundle.path),
        "bytes": sum(record.bytes for record in manifest.files.values()),
        "schedule_text": str(NoiseSchedule.from_record(manifest.schedule)),
    }


def text_of_scales(least: float, most: float) -> str:
    """The magnifications of training, in words."""
    if least == most:
        return f"{most:g} in training; other sizes are made as `infer` says"
    return f"{least:g} to {most:g} in training; more is extrapolated"


def _tables_of_bundle(bundle: Bundle, engine: Record | None) -> Iterator[Table]:
    manifest = bundle.manifest
    yield table_of_facts(_facts_of_bundle(bundle))
    yield _configuration(manifest.configuration)
    yield _graphs(manifest.graphs)
    yield _presets(manifest)
    if manifest.fitted:
        yield _fitted(manifest.fitted, manifest.quantization)
    yield _int8(manifest.quantization, decodes="decode" in manifest.graphs)
    yield _engine(engine)


def _facts_of_bundle(bundle: Bundle) -> Iterator[tuple[str, str]]:
    from deploy.checkpoint.quantizer_scales import TABLE
    from deploy.sampling.schedule import NoiseSchedule

    manifest = bundle.manifest
    tool, source, size = manifest.tool, manifest.source, sum(record.bytes for record in manifest.files.values())
    yield "bundle", f"{bundle.path}, {size / 1e6:.1f} MB in {len(manifest.files)} files"
    yield "made by", f"{tool.name} {tool.version} (schema {manifest.schema}, opset {manifest.opset})"
    yield "from", f"{source.file}, {source.bytes / 1e6:.1f} MB, SHA-256 {source.sha256[:16]}..."
    yield "family", f"{manifest.family}, {manifest.weights} weights"
    yield "schedule", str(NoiseSchedule.from_record(manifest.schedule))
    if manifest.scale_range.trained is not None:
        yield "scales", text_of_scales(*manifest.scale_range.trained)
    yield "rewrites", ", ".join(manifest.rewrites) or "none"
    if TABLE in manifest.tables:
        yield "quantizers", "activation scales of the checkpoint; `quantize --scales checkpoint` uses them"
    yield "samples", ", ".join(manifest.samples) or "none"


def _graphs(graphs: Mapping[str, Graph]) -> Table:
    return table_of_rows(
        ("graph", "takes", "makes"),
        ((name, _names(graph.inputs), _names(graph.outputs)) for name, graph in graphs.items()),
    )


def _names(tensors: Sequence[Tensor]) -> str:
    """Their names; the levels' tables, which differ by a number only, once."""
    return ", ".join(dict.fromkeys(re.sub(r"_\d+$", "_*", tensor.name) for tensor in tensors))


def _presets(manifest: Manifest) -> Table:
    from deploy.bundle.records import json_from_records

    rows = []
    for name, preset in sorted(manifest.presets.items(), key=lambda item: item[1].steps):
        told = json_from_records(preset).items()
        default = " (default)" if name == manifest.default_preset else ""
        rows.append((name + default, ", ".join(f"{key} {value}" for key, value in told if value is not None)))
    return table_of_rows(("preset", "settings"), rows)


def _fitted(equations: Mapping[str, FittedEquation], quantization: Quantization | None) -> Table:
    """The equations whose rows were fitted to the bundle, and whether they still fit it."""
    from deploy.sampling.fitted import command_to_fit, is_stale, text_from_fitted

    rows = []
    for name, equation in sorted(equations.items()):
        stale = (
            ""
            if not is_stale(equation, quantization)
            else f"; stale, its int8 graphs are gone: {command_to_fit(equation)}"
        )
        rows.append((name, text_from_fitted(equation) + stale))
    return table_of_rows(("equation", "fitted with"), rows)


def _int8(quantization: Quantization | None, *, decodes: bool) -> Table:
    if quantization is None:
        return table_of_facts([("int8: none yet; `idm-deploy quantize` makes it",)])
    rows: list[list[str]] = []
    evidence = None
    for name, target in quantization.targets.items():
        evidence = evidence or target.held_out
        graphs = [] if target.decoder is None else sorted(target.decoder.graphs)
        decoder = [" and ".join(graphs) or "float"] if decodes else []
        figures = ((getattr(target.held_out, figure, None), digits) for figure, digits in FIGURES_OF_INT8.items())
        texts = ["-" if figure is None else f"{figure:.{digits}f}" for figure, digits in figures]
        rows.append([name, str(len(target.edges) - 1), *decoder, *texts])
    caption = None
    if evidence is not None:
        many = "" if evidence.photographs is None else f"{evidence.photographs} "
        caption = (
            f"picture dB: PSNR between int8 and float pictures, preset {evidence.preset}, {evidence.pictures}"
            f" crops of {many}held-out photographs; worst: in plain sampling; dB lost: of PSNR against the originals"
        )
    headings = ("int8 for", "ranges", *(["decoder"] if decodes else []), "picture dB", "worst", "dB lost")
    return table_of_rows(headings, rows, caption)


def _engine(engine: Record | None) -> Table:
    if engine is None:
        advice = "engine: not chosen on this machine yet; `idm-deploy build-engine` measures what is fastest"
        return table_of_facts([(advice,)])
    (_, *headings), *rows = cells_of_candidates(engine["candidates"])
    for row in rows:
        if row[0] == name_of_candidate(engine):
            row[0] += " (chosen)"
    conditions = engine["measured"]
    title = f"engine, measured at {conditions['size']}, batch {conditions['batch']}"
    table = table_of_rows((title, *headings), rows, engine["why"])
    table.columns[0].no_wrap = True
    return table


def checkpoint_record(loaded: Checkpoint) -> Record:
    """Everything that `inspect` tells of a checkpoint, in JSON's types."""
    from deploy.bundle.records import json_from_records

    return {
        "path": str(loaded.path),
        "format": loaded.format,
        "bytes": loaded.size,
        "family": loaded.family,
        "title": loaded.title,
        "weights": loaded.weights,
        "configuration": json_from_records(loaded.configuration),
        "notes": list(loaded.notes),
        "schedule": {**loaded.schedule.as_dict(), "source": loaded.sources["schedule"]},
        "schedule_text": str(loaded.schedule),
        "value_range": list(loaded.value_range),
        "scale_range": loaded.scale_range and list(loaded.scale_range),
        "parameters": loaded.parameters_by_part,
        "quantizers": _quantizers(loaded),
        "remarks": list(loaded.remarks),
    }


def _quantizers(loaded: Checkpoint) -> Record | None:
    """What another library's calibration left in the file; None if there is nothing of the kind."""
    from deploy.checkpoint.quantizer_scales import activation_amax, library_of

    library = library_of(loaded.stored)
    if library is None:
        return None
    return {"library": library, "activation_scales": len(activation_amax(loaded.stored))}


def _tables_of_checkpoint(loaded: Checkpoint, record: Record) -> Iterator[Table]:
    yield table_of_facts(_facts_of_checkpoint(record))
    yield _configuration(loaded.configuration)
    yield _parameters(record)


def _facts_of_checkpoint(record: Record) -> Iterator[tuple[str, str]]:
    yield "checkpoint", f"{record['path']}, {record['bytes'] / 1e6:.1f} MB, {record['format']}"
    if "sha256" in record:
        yield "SHA-256", record["sha256"]
    for remark in record["remarks"]:
        yield "note", remark
    yield "family", f"{record['family']}: {record['title']}"
    yield "weights", record["weights"]
    yield "schedule", f"{record['schedule_text']} ({record['schedule']['source']})"
    for note in record["notes"]:
        yield "assumed", note
    if scales := record["quantizers"]:
        origin = f"activation scales of {scales['activation_scales']} layers, by {scales['library']}"
        yield "quantizers", f"{origin}; `quantize --scales checkpoint` uses them"
    yield "images", "{:g} to {:g}".format(*record["value_range"])
    if record["scale_range"]:
        yield "scales", text_of_scales(*record["scale_range"])


def _configuration(configuration: Mapping[str, ConfiguredValue]) -> Table:
    return table_of_rows(
        ("configuration", "value", "from"),
        ((name, json.dumps(each.value), each.source) for name, each in configuration.items()),
    )


def _parameters(record: Record) -> Table:
    counts = record["parameters"]
    totals = {use: sum(count[use] for count in counts.values()) for use in ("used", "unused")}
    table = table_of_rows(
        ("parameters", "used", "unused"),
        ((part, f"{count['used']:,}", f"{count['unused']:,}") for part, count in {**counts, "all": totals}.items()),
    )
    for column in table.columns[1:]:
        column.justify = "right"
    return table
