"""`idm-deploy verify`: the files of a bundle are the ones that its bundle.json lists."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.models import NamesModel
from deploy.cli.options import ENGINE, FIRST, BundleArgument, Json
from deploy.cli.tables import print_result

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.export.parity import Parity


EXAMPLES = (
    "idm-deploy verify ckpt.bundle",
    "idm-deploy verify ckpt.bundle --against ckpt.pt",
    "idm-deploy verify stranger.bundle --deadline 60",
)


def verify(
    bundle: BundleArgument = None,
    against: Annotated[
        Path | None,
        FIRST(
            "The checkpoint that the bundle was made from: also run every graph and compare its results with the "
            "network as published."
        ),
        NamesModel(),
    ] = None,
    clean: Annotated[bool, FIRST("Delete files in the folder that do not belong to the bundle.", "--clean")] = False,
    deadline: Annotated[
        float | None,
        FIRST(
            "Also run every graph once, in a process of its own that is ended after so many seconds. A stranger's "
            "bundle runs so by itself when it is first used, for at most 60.",
            least=1,
        ),
    ] = None,
    engine: Annotated[
        str, ENGINE("Which library runs the graphs for --against and --deadline; `doctor` lists them.")
    ] = "onnxruntime-cpu",
    device: Annotated[int | None, ENGINE("Number of the GPU for --against, 0 is the first.")] = None,
    as_json: Json = False,
) -> None:
    """Check every file of a bundle against its SHA-256; with --against also its graphs against their checkpoint."""
    from deploy.bundle import Bundle, discover

    if against is None and device is not None:
        raise typer.BadParameter("the GPU runs the graphs for --against, which is missing.", param_hint="--device")
    opened = Bundle.open(discover(explicit=bundle), verify="full")
    report = files_report(opened, clean=clean)
    lines = text_from_files_report(report)
    if deadline is not None:
        report["ran"] = graphs_that_ran(opened, engine, deadline)
        lines.append(f"ran on {engine} within {deadline:g} seconds: {', '.join(report['ran'])}")
    rows = [] if against is None else parity_rows(opened, against, engine, device)
    if against is not None:
        report["parity"] = [asdict(row) for row in rows]
        lines += text_from_parity(report["parity"])
    print_result(report, lambda: typer.echo("\n".join(lines)), as_json=as_json)
    if against is not None:
        from deploy.export.parity import refuse_other_results

        refuse_other_results(opened, rows)  # after the report, which shows more


def graphs_that_ran(bundle: "Bundle", engine: str, deadline: float) -> list[str]:
    """Their names, each run once in another process."""
    from deploy.engine.choice import engine_choice
    from deploy.engine.first_run import rehearse

    return rehearse(bundle, engine_choice(bundle, engine).backend, deadline_s=deadline)


def files_report(bundle: "Bundle", *, clean: bool) -> dict[str, Any]:
    """What an opened, hence verified, bundle holds, and what `clean` removed from its folder."""
    removed = bundle.clean() if clean else []
    records = bundle.manifest.files.values()
    return {
        "bundle": str(bundle.path),
        "files": len(records),
        "bytes": sum(record.bytes for record in records),
        "removed": removed,
        "unlisted": bundle.unlisted(),
    }


def text_from_files_report(report: dict[str, Any]) -> list[str]:
    """The lines that a person reads."""
    lines = [f"{report['bundle']}: {report['files']} files, {report['bytes'] / 1e6:.1f} MB, every SHA-256 as recorded"]
    lines += [f"removed {name}" for name in report["removed"]]
    if report["unlisted"]:
        lines.append(f"not part of the bundle (--clean removes them): {', '.join(report['unlisted'])}")
    return lines


def parity_rows(bundle: "Bundle", checkpoint: Path, engine: str, device: int | None = None) -> "list[Parity]":
    """What parity found, as a row per graph output, size and reference."""
    from deploy.cli.progress import shown_progress
    from deploy.engine.choice import engine_choice
    from deploy.export.parity import load_origin, parity_report

    choice = engine_choice(bundle, engine, "fp32", device=device)
    with shown_progress("verify") as progress:
        return parity_report(bundle, load_origin(bundle, checkpoint), choice, progress=progress)


def text_from_parity(records: list[dict[str, Any]]) -> list[str]:
    """The worst case of each output against each reference, over all sizes."""
    worst: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        key = record["graph"], record["output"], record["reference"]
        if key not in worst or record["max_error"] > worst[key]["max_error"]:
            worst[key] = record
    lines = ["worst of all sizes:"]
    for (graph, output, reference), record in worst.items():
        height, width = record["size"]
        sqnr = "equal" if record["sqnr_db"] is None else f"SQNR {record['sqnr_db']:.0f} dB"
        lines.append(
            f"  {graph + '.' + output:22} against the {reference:21} max {record['max_error']:.1e}, "
            f"mean {record['mean_error']:.1e}, {sqnr} (at {width}x{height}, "
            f"batch {record['batch']})"
        )
    return lines
