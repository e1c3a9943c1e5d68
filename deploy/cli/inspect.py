"""`idm-deploy inspect`: what a checkpoint holds and how it was understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.checkpoint import Checkpoint

Record = dict[str, Any]


def inspect(
    file: Path = typer.Argument(..., help="A checkpoint: .pt, .pth, .ckpt or .safetensors."),
    config: Path | None = typer.Option(None, "--config", help="The authors' configuration file, JSON or YAML."),
    weights: str = typer.Option("raw", "--weights", help="raw, as published inference uses them, or ema."),
    sha256: bool = typer.Option(False, "--sha256", help="Hash the file too."),
    as_json: bool = typer.Option(False, "--json", help="Print the record as JSON."),
) -> None:
    """Show a checkpoint's family, configuration with the source of each value, schedule, scales and sizes."""
    record, tables = _checkpoint(file, config, weights, sha256)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
        return
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    for make_table in tables:
        console.print(make_table(record))


def _checkpoint(
    file: Path, config: Path | None, weights: str, sha256: bool
) -> tuple[Record, tuple[Callable[[Record], Table], ...]]:
    """The record of a checkpoint, and the tables that show it."""
    from deploy.checkpoint import load_checkpoint, weights_named

    loaded = load_checkpoint(file, config=config, weights=weights_named(weights))
    record = checkpoint_record(loaded)
    if sha256:
        record["sha256"] = loaded.sha256
    return record, (_summary, _configuration, _parameters)


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
    }


def _summary(record: Record) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("file", f"{record['path']}, {record['bytes'] / 1e6:.1f} MB, {record['format']}")
    if "sha256" in record:
        table.add_row("SHA-256", record["sha256"])
    table.add_row("family", f"{record['family']}: {record['title']}")
    table.add_row("weights", record["weights"])
    table.add_row("schedule", f"{record['schedule_text']} ({record['schedule']['source']})")
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
