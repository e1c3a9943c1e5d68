"""`idm-deploy bench`: what a bundle costs on this machine, each engine beside the network as published."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.models import NamesModel
from deploy.cli.options import FIRST, PRESETS, BundleArgument, Json, Panel, engine_names, one_of
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result, text_from_cells

if TYPE_CHECKING:
    from deploy.sampling.choices import Choices


CONTENDERS, CONDITIONS = Panel("What is measured"), Panel("Under which conditions")
EXAMPLES = (
    "idm-deploy bench ckpt.bundle",
    "idm-deploy bench --part step --engine onnxruntime-cpu --plot step.png",
)


def bench(
    bundle: BundleArgument = None,
    part: Annotated[
        list[str],
        FIRST(
            "What to measure: step, picture, batches, sizes, start-up, roofline or disk; repeatable. If left out, "
            "everything.",
            complete=one_of("step", "picture", "batches", "sizes", "start-up", "roofline", "disk"),
        ),
    ] = [],
    checkpoint: Annotated[
        Path | None,
        FIRST(
            "The checkpoint that the bundle was made from, to run in PyTorch. If left out, random weights, which take "
            "the same time."
        ),
        NamesModel(),
    ] = None,
    plot: Annotated[Path | None, FIRST("PNG file to draw the figures into.")] = None,
    engine: Annotated[
        list[str],
        CONTENDERS(
            "Measure this engine only; `doctor` lists them; repeatable. If left out, all that are here.",
            complete=engine_names,
        ),
    ] = [],
    precision: Annotated[
        list[str],
        CONTENDERS(
            "Measure this number format only: fp32, bf16, fp16 or int8; repeatable. If left out, all.",
            complete=one_of("fp32", "bf16", "fp16", "int8"),
        ),
    ] = [],
    preset: Annotated[
        list[str],
        CONTENDERS(
            "Sample whole pictures with this preset; repeatable. If left out, the bundle's default.",
            complete=PRESETS,
        ),
    ] = [],
    plain: Annotated[
        list[int],
        CONTENDERS("Sample whole pictures with so many steps of plain ddim from pure noise as well; repeatable."),
    ] = [],
    size: Annotated[str, CONDITIONS("Output size in pixels, such as 256x256.")] = "128x128",
    batch: Annotated[int, CONDITIONS("How many pictures a step makes at once.")] = 1,
    threads: Annotated[int, CONDITIONS("How many processor threads everything may use.")] = 2,
    device: Annotated[
        int | None, CONDITIONS("Number of the GPU, 0 is the first; for GPU engines only.", least=0)
    ] = None,
    rounds: Annotated[
        int, CONDITIONS("How often everything is timed, in turn; the table shows the median and the spread.")
    ] = 7,
    published_steps: Annotated[
        int, CONDITIONS("How many of PyTorch's many steps are timed in a round; a whole picture is reckoned from them.")
    ] = 2,
    batches: Annotated[str, CONDITIONS("For part batches: how many pictures at once, by commas.")] = "1,2,4,8",
    sizes: Annotated[str, CONDITIONS("For part sizes: sides of the square outputs, by commas.")] = "64,128,256,512",
    tile: Annotated[
        int | None,
        CONDITIONS("For parts batches and sizes: make pictures in tiles of so many pixels a side, as `infer --tile`."),
    ] = None,
    no_tile: Annotated[
        bool, CONDITIONS("For parts batches and sizes: make pictures whole, as `infer --no-tile`.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Time steps, whole pictures, batches, sizes, start-up and memory on every engine beside PyTorch as published."""
    from deploy.bundle import Bundle, discover
    from deploy.cli.values import checked_usage, size_from_text, tile_from_options
    from deploy.images.sizes import Size
    from deploy.measure.benchmark.bench import bench_bundle, failures_of
    from deploy.measure.benchmark.settings import PARTS, BenchSettings

    with checked_usage():
        settings = BenchSettings(
            size=Size.from_user(size_from_text(size)),
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
            tile=tile_from_options(tile, no_tile=no_tile),
        )
    if plot is not None:
        from deploy.measure.benchmark.plot import check_plot, write_plot

        check_plot(plot)
    opened = Bundle.open(discover(explicit=bundle))
    note = note_from_load(*load_and_cores())  # before we are the load ourselves
    network = None
    if checkpoint is not None:
        from deploy.export.parity import load_origin

        network = load_origin(opened, checkpoint).network
    with shown_progress("bench") as progress:
        report = bench_bundle(opened, settings, network, progress) | {"note": note}
    if plot is not None:
        write_plot(report, plot)
    print_result(report, lambda: show(report), as_json=as_json)
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

    ways = [Choices(preset=name) for name in presets]
    ways += [Choices(equation="ddim", placement="uniform", start=0.0, consistency=0.0, steps=steps) for steps in plain]
    return tuple(ways) or (Choices(),)


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
