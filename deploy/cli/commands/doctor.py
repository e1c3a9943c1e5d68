"""`idm-deploy doctor`: what this machine can run and what is missing, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from deploy.cli.options import Json

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
    from rich.console import Console

    # markup off: the pip lines have square brackets
    console = Console(markup=False, highlight=False)
    for table in (_machine(report), _packages(report), _engines(report)):
        console.print(table)
        console.print()
    for problem in report.problems:
        console.print(f"! {problem}", style="yellow")


def _machine(report: Report) -> Table:
    from rich.table import Table

    cpu, memory = report.cpu, report.memory
    table = Table.grid(padding=(0, 2))
    table.add_row("idm-deploy", f"{report.version}, Python {report.python}, {report.system}")
    table.add_row("processor", f"{cpu.model}, {cpu.usable_cores} of {cpu.cores} cores usable")
    has = " ".join(name for name, present in cpu.features.items() if present) or "unknown"
    lacks = " ".join(name for name, present in cpu.features.items() if not present)
    table.add_row("", has + (f" (not {lacks})" if lacks else ""))
    limit = f", limit of the container {_gib(memory.limit)}" if memory.limit else ""
    table.add_row("memory", f"{_gib(memory.total)}, {_gib(memory.available)} available{limit}")
    gpus = [f"{gpu.name}, {_gib(gpu.memory)}, driver {gpu.driver or 'unknown'}" for gpu in report.gpus]
    for index, line in enumerate(gpus or ["no NVIDIA GPU found"]):
        table.add_row("" if index else "GPU", line)
    return table


def _packages(report: Report) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("package", "version, or what installs it", "for"):
        table.add_column(header, no_wrap=header != "for")  # a pip line is there to be copied
    for package in report.packages:
        table.add_row(package.name, package.version or package.install, package.purpose)
    return table


def _engines(report: Report) -> Table:
    from rich.table import Table

    table = Table("engine", "here", "precisions", "int8 sums", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for engine in report.engines:
        here = f"yes, {engine.version}" if engine.available else f"no: {engine.reason}"
        table.add_row(engine.name, here, " ".join(engine.precisions), engine.int8)
    return table


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
