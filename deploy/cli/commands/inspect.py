"""`idm-deploy inspect`: what a checkpoint holds and how it was understood."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deploy.cli.options import CHECKPOINT, ENGINE, FIRST, Config, Json

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.bundle import Bundle
    from deploy.checkpoint.load import Checkpoint

Record = dict[str, Any]

FIGURES_OF_INT8 = {"fidelity_db": 1, "worst_db": 1, "psnr_drop": 3}
"""What `quantize` measured on held-out pictures, in the order shown, and decimals."""


EXAMPLES = (
    "idm-deploy inspect ckpt.pt",
    "idm-deploy inspect ckpt.bundle",
)


def inspect(
    file: Annotated[Path, typer.Argument(help="A checkpoint (.pt, .pth, .ckpt or .safetensors) or a bundle's folder.")],
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
    if file.is_dir():
        if config is not None or weights is not None or sha256:
            raise typer.BadParameter(
                f"{file} is a folder, a bundle's; --config, --weights and --sha256 are for checkpoint files."
            )
        record, tables = _bundle(file, cache_dir)
    else:
        if cache_dir is not None:
            raise typer.BadParameter(f"{file} is a file; --cache-dir is for a bundle, whose engine was chosen.")
        record, tables = _checkpoint(file, config, weights or "raw", sha256)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    for make_table in tables:
        console.print(make_table(record))


def _checkpoint(
    file: Path, config: Path | None, weights: Literal["raw", "ema"], sha256: bool
) -> tuple[Record, tuple[Callable[[Record], Table], ...]]:
    """The record of a checkpoint, and the tables that show it."""
    from deploy.checkpoint.load import load_checkpoint

    loaded = load_checkpoint(file, config=config, weights=weights)
    record = checkpoint_record(loaded)
    if sha256:
        record["sha256"] = loaded.sha256
    return record, (_summary, _configuration, _parameters)


def _bundle(folder: Path, cache_dir: Path | None) -> tuple[Record, tuple[Callable[[Record], Table], ...]]:
    """The record of a bundle, its files verified, and the tables that show it."""
    from deploy.bundle import Bundle

    opened = Bundle.open(folder)
    record = bundle_record(opened) | {"engine": engine_record(opened, cache_dir)}
    return record, (_bundle_summary, _configuration, _graphs, _presets, _int8, _engine)


def engine_record(bundle: Bundle, cache_dir: Path | None) -> Record | None:
    """What `build-engine` chose for a bundle on this machine, with its figures; None if it was not asked yet."""
    from deploy.engine.chosen import newest_decision

    entry = newest_decision(bundle, cache_dir)
    if entry is None:
        return None
    chosen = {name: entry.figures["chosen"][name] for name in ("backend", "precision")}
    return {
        **chosen,
        "why": entry.figures["why"],
        "candidates": entry.figures["candidates"],
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
        "schedule_text": str(NoiseSchedule.from_dict(manifest.schedule)),
    }


def _bundle_summary(record: Record) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    tool, source = record["tool"], record["source"]
    table.add_row("bundle", f"{record['path']}, {record['bytes'] / 1e6:.1f} MB in {len(record['files'])} files")
    table.add_row("made by", f"{tool['name']} {tool['version']} (schema {record['schema']}, opset {record['opset']})")
    table.add_row("from", f"{source['file']}, {source['bytes'] / 1e6:.1f} MB, SHA-256 {source['sha256'][:16]}...")
    table.add_row("family", f"{record['family']}, {record['weights']} weights")
    table.add_row("schedule", record["schedule_text"])
    trained = record["scale_range"].get("trained")
    if trained:
        table.add_row("scales", f"{trained[0]:g} to {trained[1]:g} in training; more is extrapolated")
    table.add_row("rewrites", ", ".join(record["rewrites"]) or "none")
    if "checkpoint_amax" in record["tables"]:
        table.add_row("quantizers", "activation scales of the checkpoint; `quantize --scales checkpoint` uses them")
    table.add_row("samples", ", ".join(record["samples"]) or "none")
    return table


def _graphs(record: Record) -> Table:
    from rich.table import Table

    table = Table("graph", "takes", "makes", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, graph in record["graphs"].items():
        table.add_row(name, *(_names(graph[side]) for side in ("inputs", "outputs")))
    return table


def _names(tensors: list[Record]) -> str:
    """Their names; the levels' tables, which differ by a number only, once."""
    return ", ".join(dict.fromkeys(re.sub(r"_\d+$", "_*", tensor["name"]) for tensor in tensors))


def _presets(record: Record) -> Table:
    from rich.table import Table

    table = Table("preset", "settings", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, settings in sorted(record["presets"].items(), key=lambda item: item[1]["steps"]):
        mark = " (default)" if name == record["default_preset"] else ""
        table.add_row(name + mark, ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None))
    return table


def _int8(record: Record) -> Table:
    from rich.table import Table

    quantization, decodes = record.get("quantization"), "decode" in record["graphs"]
    if quantization is None:
        table = Table.grid()
        table.add_row("int8: none yet; `idm-deploy quantize` makes it")
        return table
    headings = ("int8 for", "ranges", *(["decoder"] if decodes else []), "picture dB", "worst", "dB lost")
    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    seen: Record = {}
    for target, described in quantization["targets"].items():
        measured = described.get("held_out", {})
        seen = seen or measured
        decoder = [" and ".join(sorted(described.get("decoder", {}).get("graphs", {}))) or "float"] if decodes else []
        figures = ((measured.get(name), digits) for name, digits in FIGURES_OF_INT8.items())
        texts = ["-" if figure is None else f"{figure:.{digits}f}" for figure, digits in figures]
        table.add_row(target, str(len(described["edges"]) - 1), *decoder, *texts)
    if seen:
        table.caption, table.caption_justify = (
            f"picture dB: PSNR between int8 and float pictures, preset {seen['preset']}, {seen['pictures']} crops"
            " of held-out photographs; worst: in plain sampling; dB lost: of PSNR against the originals",
            "left",
        )
    return table


def _engine(record: Record) -> Table:
    from rich.table import Table

    from deploy.cli.values import cells_of_candidates

    engine = record["engine"]
    if engine is None:
        table = Table.grid()
        table.add_row("engine: not chosen on this machine yet; `idm-deploy build-engine` measures what is fastest")
        return table
    (_, *headings), *rows = cells_of_candidates(engine["candidates"])
    measured = engine["measured"]
    title = f"engine, measured at {measured['size']}, batch {measured['batch']}"
    table = Table(title, *headings, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].no_wrap = True
    for name, *cells in rows:
        mark = " (chosen)" if name == f"{engine['backend']} {engine['precision']}" else ""
        table.add_row(name + mark, *cells)
    table.caption, table.caption_justify = engine["why"], "left"
    return table


def checkpoint_record(loaded: Checkpoint) -> Record:
    """Everything that `inspect` tells of a checkpoint, in JSON's types."""
    return {
        "path": str(loaded.path),
        "format": loaded.format,
        "bytes": loaded.size,
        "family": loaded.family,
        "title": loaded.title,
        "weights": loaded.weights,
        "configuration": loaded.configuration,
        "schedule": {**loaded.schedule.as_dict(), "source": loaded.sources["schedule"]},
        "schedule_text": str(loaded.schedule),
        "value_range": list(loaded.value_range),
        "scale_range": loaded.scale_range and list(loaded.scale_range),
        "parameters": loaded.parameters_by_part,
        "quantizers": _quantizers(loaded),
    }


def _quantizers(loaded: Checkpoint) -> Record | None:
    """What another library's calibration left in the file; None if there is nothing of the kind."""
    from deploy.checkpoint.quantizer_scales import activation_amax, library_of

    library = library_of(loaded.stored)
    if library is None:
        return None
    return {"library": library, "activation_scales": len(activation_amax(loaded.stored))}


def _summary(record: Record) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("file", f"{record['path']}, {record['bytes'] / 1e6:.1f} MB, {record['format']}")
    if "sha256" in record:
        table.add_row("SHA-256", record["sha256"])
    table.add_row("family", f"{record['family']}: {record['title']}")
    table.add_row("weights", record["weights"])
    table.add_row("schedule", f"{record['schedule_text']} ({record['schedule']['source']})")
    if record["quantizers"]:
        scales = record["quantizers"]
        table.add_row(
            "quantizers",
            f"activation scales of {scales['activation_scales']} layers, by {scales['library']};"
            " `quantize --scales checkpoint` uses them",
        )
    low, high = record["value_range"]
    table.add_row("images", f"{low:g} to {high:g}")
    if record["scale_range"]:
        low, high = record["scale_range"]
        table.add_row("scales", f"{low:g} to {high:g} in training; more is extrapolated")
    return table


def _configuration(record: Record) -> Table:
    from rich.table import Table

    table = Table("configuration", "value", "from", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, entry in record["configuration"].items():
        table.add_row(name, json.dumps(entry["value"]), entry["source"])
    return table


def _parameters(record: Record) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("parameters")
    table.add_column("used", justify="right")
    table.add_column("unused", justify="right")
    totals = {"used": 0, "unused": 0}
    for part, counts in record["parameters"].items():
        table.add_row(part, f"{counts['used']:,}", f"{counts['unused']:,}")
        totals = {key: total + counts[key] for key, total in totals.items()}
    table.add_row("all", f"{totals['used']:,}", f"{totals['unused']:,}")
    return table
