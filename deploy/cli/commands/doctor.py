"""`idm-deploy doctor`: what this machine can run and what is missing, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deploy.cli.options import Json
from deploy.cli.tables import plain_console, table_of_facts, table_of_rows

if TYPE_CHECKING:
    from rich.table import Table

    from deploy.engine.doctor import Report


EXAMPLES = ("idm-deploy doctor",)


def doctor(
    as_json: Json = False,
) -> None:
    """Show Python, processor, memory, packages and engines, and how to get what is missing."""
    from deploy.engine.doctor import examine

    report = examine()
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(report), indent=2))
    else:
        _print(report)


def _print(report: Report) -> None:
    console = plain_console()
    for number, table in enumerate((_machine(report), _packages(report), _engines(report))):
        if number:
            console.print()
        console.print(table)
    if report.problems:
        console.print()
    for problem in report.problems:
        console.print(f"! {problem}", style="yellow")


def _machine(report: Report) -> Table:
    cpu, memory = report.cpu, report.memory
    has = " ".join(name for name, present in cpu.features.items() if present) or "unknown"
    lacks = " ".join(name for name, present in cpu.features.items() if not present)
    limit = f", limit of the container {_gib(memory.limit)}" if memory.limit else ""
    gpus = [f"{gpu.name}, {_gib(gpu.memory)}, driver {gpu.driver or 'unknown'}" for gpu in report.gpus]
    first, *others = gpus or ["no NVIDIA GPU found"]
    return table_of_facts(
        [
            ("idm-deploy", f"{report.version}, Python {report.python}, {report.system}"),
            ("processor", f"{cpu.model}, {cpu.usable_cores} of {cpu.cores} cores usable"),
            ("", has + (f" (not {lacks})" if lacks else "")),
            ("memory", f"{_gib(memory.total)}, {_gib(memory.available)} available{limit}"),
            ("GPU", first),
            *(("", other) for other in others),
        ]
    )


def _packages(report: Report) -> Table:
    table = table_of_rows(
        ("package", "version, or what installs it", "for"),
        ((package.name, package.version or package.install, package.purpose) for package in report.packages),
    )
    for column in table.columns[:2]:
        column.no_wrap = True  # a pip line is there to be copied
    return table


def _engines(report: Report) -> Table:
    return table_of_rows(
        ("engine", "here", "precisions", "int8 sums"),
        (
            (
                engine.name,
                f"yes, {engine.version}" if engine.available else f"no: {engine.reason}",
                " ".join(engine.precisions),
                engine.int8,
            )
            for engine in report.engines
        ),
    )


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
