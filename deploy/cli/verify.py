"""`idm-deploy verify`: the files of a bundle are the ones that its bundle.json lists."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from deploy.bundle import Bundle


def verify(
    bundle: Path | None = typer.Argument(None, help="The bundle's folder; found by itself if there is only one here."),
    clean: bool = typer.Option(False, "--clean", help="Remove the files that bundle.json does not list."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Check every file of a bundle against its SHA-256."""
    from deploy.bundle import Bundle, discover

    opened = Bundle.open(discover(explicit=bundle), verify="full")
    report = files_report(opened, clean=clean)
    typer.echo(json.dumps(report, indent=1, sort_keys=True) if as_json else "\n".join(text_from_files_report(report)))


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
