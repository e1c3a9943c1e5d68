"""`idm-deploy bench`: how long one step takes on every engine, beside the network as published."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import shown_progress

if TYPE_CHECKING:
    from deploy.bench import Timing


def bench(
    bundle: Path | None = typer.Argument(None, help="The bundle's folder; found by itself if there is only one here."),
    size: str = typer.Option("128x128", "--size", help="The output size, WIDTHxHEIGHT."),
    batch: int = typer.Option(1, "--batch", help="Pictures per step."),
    threads: int = typer.Option(2, "--threads", help="Threads of every contender."),
    rounds: int = typer.Option(7, "--rounds", help="Rounds in which all contenders take their turn."),
    checkpoint: Path | None = typer.Option(
        None,
        "--checkpoint",
        help="The bundle's checkpoint, for the PyTorch rows; without it random weights, which take the same time.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Time one denoising step, and decoding for the latent family, on every engine beside PyTorch as published."""
    from deploy.bench import BenchSettings, bench_bundle
    from deploy.bundle import Bundle, discover
    from deploy.cli.values import size_from_text

    width, height = size_from_text(size)
    settings = BenchSettings(size=(height, width), batch=batch, threads=threads, rounds=rounds)
    opened = Bundle.open(discover(explicit=bundle))
    note = note_from_load(*load_and_cores())  # before we are the load ourselves
    network = None
    if checkpoint is not None:
        from deploy.export.origin import load_origin

        network = load_origin(opened, checkpoint).network
    with shown_progress("bench") as progress:
        timings = bench_bundle(opened, settings, network, progress)
    report = report_from_timings(timings, str(opened.path), size, batch, threads) | {"note": note}
    if as_json:
        typer.echo(json.dumps(report, indent=1, sort_keys=True))
    else:
        _print(report)
    if any(timing.failure for kind in timings.values() for timing in kind):
        raise typer.Exit(1)


def load_and_cores() -> tuple[float, int]:
    """How many processes wanted a core during the last minute (0 where the system does not tell), and the cores."""
    from deploy.doctor import find_cpu

    return (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0), find_cpu().usable_cores


def note_from_load(load: float, cores: int) -> str | None:
    """What to know before trusting the times, if other programs want more than half of the cores.

    PyTorch's threads wait for each other after every operation, so that there a busy machine also changes the ratios.
    """
    if load <= cores / 2:
        return None
    return (
        f"other programs kept this machine busy (load {load:.1f} on {cores} cores): times and ratios are not those of "
        "a quiet one"
    )


def report_from_timings(
    timings: "dict[str, list[Timing]]", bundle: str, size: str, batch: int, threads: int
) -> dict[str, Any]:
    """Everything measured, in JSON's types."""
    from deploy.doctor import find_cpu

    return {
        "bundle": bundle,
        "size": size,
        "batch": batch,
        "threads": threads,
        "cpu": find_cpu().model,
        "timings": {kind: _rows(contenders) for kind, contenders in timings.items()},
    }


def _rows(timings: "list[Timing]") -> list[dict[str, Any]]:
    from deploy.bench import ratios

    faster = ratios(timings)
    return [
        {"name": t.name, "failure": t.failure}
        if t.failure
        else {"name": t.name, "median_ms": t.median_ms, "times_ms": list(t.times_ms), "ratio": faster[t.name]}
        for t in timings
    ]


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if report["note"]:
        console.print(f"! {report['note']}", style="yellow")
    for kind, rows in report["timings"].items():
        what = "one step" if kind == "step" else "decoding"
        title = f"{what} at {report['size']}, batch {report['batch']}, {report['threads']} threads, {report['cpu']}"
        table = Table("", box=None, title=title, title_justify="left", pad_edge=False)
        for name in ("median", "fastest", "slowest", "times faster"):
            table.add_column(name, justify="right")
        for row in rows:
            if row.get("failure"):
                table.add_row(row["name"], row["failure"])
                continue
            times = row["times_ms"]
            cells = (f"{value:.1f} ms" for value in (row["median_ms"], min(times), max(times)))
            table.add_row(row["name"], *cells, f"{row['ratio']:.2f}")
        console.print(table)
