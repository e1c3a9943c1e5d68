"""`idm-deploy export`: a checkpoint becomes a bundle."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.models import NamesModel
from deploy.cli.options import FIRST, Config, Json, Sample, Weights
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result

EXAMPLES = (
    "idm-deploy export ckpt.pt",
    "idm-deploy export ckpt.pt --weights ema --sample small.png -o faces.bundle",
)


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="The checkpoint: a file as training code saved it, or a diffusers folder."),
        NamesModel(),
    ],
    output: Annotated[
        Path | None, FIRST("Folder for the bundle. If left out, <checkpoint>.bundle in this folder.", "--output", "-o")
    ] = None,
    sample: Sample = [],
    compact: Annotated[
        bool,
        FIRST(
            "Store weights in two bytes where these hold their exact value: a smaller file, the same results.",
            "--compact",
        ),
    ] = False,
    no_rewrite: Annotated[
        list[str],
        FIRST(
            "Leave out one of the exact rewrites, by the name that `inspect` shows, to see what it brings; repeatable."
        ),
    ] = [],
    force: Annotated[bool, FIRST("Replace a bundle that is there already.", "--force")] = False,
    config: Config = None,
    weights: Weights = "raw",
    as_json: Json = False,
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
    for remark in loaded.remarks:
        say(remark)
    for note in loaded.notes:
        say(f"assumed: {note}")
    report: dict[str, Any] = {
        "bundle": str(place),
        "family": bundle.manifest.family,
        "rewrites": list(bundle.manifest.rewrites),
        "graphs": sorted(bundle.manifest.graphs),
        "bytes": sum(record.bytes for record in bundle.manifest.files.values()),
        "checkpoint_bytes": loaded.size,
    }
    print_result(report, lambda: typer.echo(text_from_report(report)), as_json=as_json)


def text_from_report(report: dict[str, Any]) -> str:
    """The lines that a person reads."""
    return (
        f"{report['bundle']}: {report['family']}, {report['bytes'] / 1e6:.1f} MB "
        f"(checkpoint {report['checkpoint_bytes'] / 1e6:.1f} MB)\n"
        f"graphs: {', '.join(report['graphs'])}\n"
        f"rewrites: {', '.join(report['rewrites']) or 'none'}"
    )
