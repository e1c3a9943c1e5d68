"""`idm-deploy export`: a checkpoint becomes a bundle."""

import json
from pathlib import Path
from typing import Any, Literal

import typer

from deploy.cli.progress import shown_progress


def export(
    checkpoint: Path = typer.Argument(..., help="The checkpoint, as its training code saved it."),
    output: Path | None = typer.Option(
        None, "--output", "-o", help="The bundle's folder; ./<name>.bundle if not given."
    ),
    config: Path | None = typer.Option(None, "--config", help="The authors' configuration file, JSON or YAML."),
    weights: Literal["raw", "ema"] = typer.Option("raw", "--weights", help="ema: the file's moving average."),
    no_rewrite: list[str] = typer.Option([], "--no-rewrite", help="Leave out one exact rewrite; repeatable."),
    sample: list[Path] = typer.Option(
        [], "--sample", help="A low-resolution picture to put in; repeatable, packaged ones if absent."
    ),
    compact: bool = typer.Option(
        False, "--compact", help="Store weights that fp16 holds exactly in two bytes; results do not change."
    ),
    force: bool = typer.Option(False, "--force", help="Replace an existing bundle."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Write a checkpoint as a bundle: ONNX graphs, weights, schedule, in one folder that runs without torch."""
    from deploy.checkpoint.load import load_checkpoint
    from deploy.export.export import default_path, export_bundle

    place = output or default_path(checkpoint)
    with shown_progress("export") as progress:
        loaded = load_checkpoint(checkpoint, config=config, weights=weights)
        bundle = export_bundle(
            loaded, place, without=no_rewrite, samples=sample, compact=compact, force=force, progress=progress
        )
    report: dict[str, Any] = {
        "bundle": str(place),
        "family": bundle.manifest.family,
        "rewrites": list(bundle.manifest.rewrites),
        "graphs": sorted(bundle.manifest.graphs),
        "bytes": sum(record.bytes for record in bundle.manifest.files.values()),
        "checkpoint_bytes": loaded.size,
    }
    typer.echo(json.dumps(report, indent=1, sort_keys=True) if as_json else text_from_report(report))


def text_from_report(report: dict[str, Any]) -> str:
    """The lines that a person reads."""
    return (
        f"{report['bundle']}: {report['family']}, {report['bytes'] / 1e6:.1f} MB "
        f"(checkpoint {report['checkpoint_bytes'] / 1e6:.1f} MB)\n"
        f"graphs: {', '.join(report['graphs'])}\n"
        f"rewrites: {', '.join(report['rewrites']) or 'none'}"
    )
