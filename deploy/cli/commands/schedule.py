"""`idm-deploy schedule`: find out where few steps should lie for this checkpoint."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import typer

from deploy.cli.progress import shown_progress


def schedule(
    bundle: Path | None = typer.Argument(None, help="The bundle's folder; found by itself if there is only one here."),
    steps: str = typer.Option("5,8,12,20", "--steps", help="Numbers of steps to search for, separated by commas."),
    equation: str = typer.Option("ddim,dpmpp-2m", "--equation", help="Equations to try, separated by commas."),
    start: float | None = typer.Option(
        None, "--start", help="Noise level to begin at; the default preset's if absent."
    ),
    consistency: float | None = typer.Option(None, "--consistency", help="Data consistency, 0..1; likewise."),
    image: list[Path] = typer.Option([], "--image", help="Low-resolution pictures to search with; repeatable."),
    samples: int = typer.Option(2, "--samples", help="How many pictures to search with."),
    scale: float = typer.Option(4.0, "--scale", help="Magnification of the search."),
    seed: int = typer.Option(0, "--seed", help="Seed of the starting noise."),
    presets: bool = typer.Option(True, help="Let draft, balanced and best use what was found."),
    engine: str = typer.Option("auto", "--engine", help="auto, or one that `doctor` lists."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    device: int | None = typer.Option(None, "--device", help="Number of the GPU to run on, 0 is the first."),
    force: bool = typer.Option(False, "--force", help="Search again what the bundle has already."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Search the placement of few steps for this checkpoint and store it, with presets, in the bundle."""
    from deploy.bundle import Bundle, discover
    from deploy.picture.schedule.presets import ScheduleRequest, schedule_bundle, text_from_entry
    from deploy.picture.upscaler import Upscaler, ignore

    request = ScheduleRequest(
        steps=counts_from_text(steps),
        equations=tuple(name.strip() for name in equation.split(",")),
        start=start,
        consistency=consistency,
        images=tuple(image),
        samples=samples,
        scale=scale,
        seed=seed,
        presets=presets,
        force=force,
    )
    with (
        Upscaler(Bundle.open(discover(explicit=bundle)), engine=engine, threads=threads, device=device) as upscaler,
        shown_progress("schedule") as progress,
    ):
        # A person reads the results once, at the end; JSON has them beside the lines on stderr.
        rows = schedule_bundle(upscaler, request, say=_say if as_json else ignore, progress=progress)
        place = upscaler.bundle.path
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1, sort_keys=True))
        return
    for row in rows:
        told = " (found in the bundle; --force searches again)" if row.resumed else ""
        typer.echo(text_from_entry(row.equation, row.steps, row.entry) + told)
    if presets:
        _print_presets(place)


def _print_presets(place: Path) -> None:
    """What the presets of the bundle now are."""
    from deploy.bundle import Bundle
    from deploy.sampling.choices import PRESET_NAMES, Choices, sampling_from

    manifest = Bundle.open(place, verify="sizes").manifest
    typer.echo(f"presets in {place}:")
    for name in PRESET_NAMES:
        default = " (default)" if name == manifest.default_preset else ""
        typer.echo(f"  {sampling_from(manifest, Choices(preset=name)).describe()}{default}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def counts_from_text(text: str) -> tuple[int, ...]:
    """The whole numbers of "5,8,12"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of step counts; write them like 5,8,12.", param_hint="--steps")
    return tuple(dict.fromkeys(int(part) for part in parts))
