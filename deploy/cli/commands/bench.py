"""`idm-deploy bench`: what a bundle costs on this machine, each engine beside the network as published."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells

if TYPE_CHECKING:
    from deploy.sampling.choices import Choices


def bench(
    bundle: Path | None = typer.Argument(None, help="The bundle's folder; found by itself if there is only one here."),
    part: list[str] = typer.Option(
        [], "--part", help="step, picture, batches, sizes, start-up, roofline or disk; repeatable, all if absent."
    ),
    size: str = typer.Option("128x128", "--size", help="The output size, WIDTHxHEIGHT."),
    batch: int = typer.Option(1, "--batch", help="Pictures per step."),
    threads: int = typer.Option(2, "--threads", help="Threads of every contender."),
    rounds: int = typer.Option(7, "--rounds", help="Rounds in which all contenders take their turn."),
    engine: list[str] = typer.Option([], "--engine", help="One that `doctor` lists; repeatable, all if absent."),
    device: int | None = typer.Option(
        None, "--device", help="Number of the GPU, 0 is the first, for GPU engines alone."
    ),
    precision: list[str] = typer.Option([], "--precision", help="fp32, bf16, fp16 or int8; repeatable."),
    preset: list[str] = typer.Option([], "--preset", help="How whole pictures are sampled; repeatable."),
    plain: list[int] = typer.Option([], "--plain", help="The same: ddim from noise, no aids, N steps; repeatable."),
    batches: str = typer.Option("1,2,4,8", "--batches", help="Numbers of pictures at once, for the throughput."),
    sizes: str = typer.Option("64,128,256,512", "--sizes", help="Sides of square outputs, for how cost grows."),
    published_steps: int = typer.Option(2, "--published-steps", help="Steps that each turn of PyTorch times."),
    checkpoint: Path | None = typer.Option(
        None,
        "--checkpoint",
        help="The bundle's checkpoint, for the PyTorch rows; without it random weights, which take the same time.",
    ),
    plot: Path | None = typer.Option(None, "--plot", help="Draw the figures into this PNG."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Time steps, whole pictures, batches, sizes, start-up and memory on every engine beside PyTorch as published."""
    from deploy.bundle import Bundle, discover
    from deploy.cli.values import size_from_text
    from deploy.measure.benchmark.bench import bench_bundle, failures_of
    from deploy.measure.benchmark.settings import PARTS, BenchSettings

    width, height = size_from_text(size)
    settings = BenchSettings(
        size=(height, width),
        batch=batch,
        threads=threads,
        rounds=rounds,
        parts=tuple(part) or PARTS,
        choices=_ways_to_sample(preset, plain),
        published_steps=published_steps,
        batches=_numbers(batches, "--batches"),
        sides=_numbers(sizes, "--sizes"),
        engines=tuple(engine),
        device=device,
        precisions=tuple(precision),
    )
    if plot is not None:
        from deploy.measure.benchmark.plot import check_plot, write_plot

        check_plot(plot)
    opened = Bundle.open(discover(explicit=bundle))
    note = note_from_load(*load_and_cores())  # before we are the load ourselves
    network = None
    if checkpoint is not None:
        from deploy.export.origin import load_origin

        network = load_origin(opened, checkpoint).network
    with shown_progress("bench") as progress:
        report = bench_bundle(opened, settings, network, progress) | {"note": note}
    if plot is not None:
        write_plot(report, plot)
    if as_json:
        typer.echo(json.dumps(report, indent=1, sort_keys=True))
    else:
        show(report)
    if failures_of(report):
        raise typer.Exit(1)


def load_and_cores() -> tuple[float, int]:
    """How many processes wanted a core during the last minute (0 where the system does not tell), and the cores."""
    from engines.machine.host import find_cpu

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


def _ways_to_sample(presets: list[str], plain: list[int]) -> "tuple[Choices, ...]":
    """What was asked for; the bundle's default preset if nothing was."""
    from deploy.sampling.choices import Choices

    found = [Choices(preset=name) for name in presets]
    found += [Choices(equation="ddim", placement="uniform", start=0.0, consistency=0.0, steps=steps) for steps in plain]
    return tuple(found) or (Choices(),)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers; write 64,128,256.", param_hint=option) from None


def show(report: dict[str, Any]) -> None:
    """Prints the report as tables, and below them what has to be known to read them."""
    from deploy.measure.benchmark.table import notes_of, sampling_notes, tables_from_report

    if report["note"]:
        typer.echo(f"! {report['note']}\n")
    for title, cells in tables_from_report(report):
        typer.echo(text_from_cells(title, cells))
        typer.echo("")
    for note in [*sampling_notes(report), *notes_of(report)]:
        typer.echo(note)
