"""`idm-deploy infer`: pictures in, larger pictures out, from a bundle alone."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import (
    ENGINE,
    FOUND_OR_PACKAGED,
    SAMPLING,
    ColorFix,
    Device,
    Engine,
    Equation,
    Format,
    Frames,
    Json,
    MaxMemory,
    Precision,
    Preset,
    Quality,
    Seed,
    Steps,
    StripMetadata,
    Threads,
    one_of,
)
from deploy.cli.progress import shown_progress
from deploy.cli.values import placement_from_text, size_from_text

if TYPE_CHECKING:
    from deploy.sampling.choices import Choices


EXAMPLES = (
    "idm-deploy infer photo.png --scale 4",
    "idm-deploy infer *.png --long-edge 2048 -o larger",
)


def infer(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Pictures to enlarge: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG XL or HEIC. If left out, a sample."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", "-s", help="Enlarge each side this many times: any number from 1, such as 4 or 2.5."),
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Output size in pixels, such as 1920x1080.")] = None,
    long_edge: Annotated[
        int | None,
        typer.Option("--long-edge", help="Pixels of the output's longer side; the other follows from the picture."),
    ] = None,
    output: Annotated[
        str | None,  # not a path, which forgets that it ended in /
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File to write, or folder/ for all of them, made if it is not there. If left out, "
            "<picture>_x<scale>.png (or the input's format, see --format) in the current folder.",
        ),
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help=FOUND_OR_PACKAGED)] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Make pictures again that exist already, and write over files that are not this tool's."
        ),
    ] = False,
    preset: Preset = None,
    equation: Equation = None,
    steps: Steps = None,
    start: Annotated[
        float | None,
        typer.Option(
            "--start",
            rich_help_panel=SAMPLING,
            help="Noise level, 0 to 1, that the enlarged input is given to begin with, which saves steps; 0 begins "
            "with pure noise instead.",
        ),
    ] = None,
    consistency: Annotated[
        float | None,
        typer.Option(
            "--consistency",
            rich_help_panel=SAMPLING,
            help="How strongly each step is pulled towards pictures that shrink to the input: 0 not at all, 1 fully.",
        ),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option(
            "--eta",
            rich_help_panel=SAMPLING,
            help="Fresh noise in each ddim step: 0 none, 1 as much as ddpm.",
        ),
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            "--placement",
            rich_help_panel=SAMPLING,
            autocompletion=one_of("uniform", "logsnr", "quadratic", "searched"),
            help="At which noise levels the steps lie: uniform, logsnr, quadratic, searched (after `schedule`), or the "
            "levels themselves, such as 0.05,0.3,0.8.",
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            rich_help_panel=SAMPLING,
            help="Sample exactly as the authors' code does: all of their steps, none of the improvements.",
        ),
    ] = False,
    seed: Seed = 0,
    engine: Engine = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = None,
    max_memory: MaxMemory = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            rich_help_panel=ENGINE,
            help="Make the picture in tiles of so many pixels a side, even if memory allows more. It comes out a "
            "little different.",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            rich_help_panel=ENGINE,
            help="Most pixels of an input or output; pictures beyond it are refused. Give more to allow larger ones.",
        ),
    ] = None,
    format: Format = None,
    quality: Quality = None,
    strip_metadata: StripMetadata = False,
    color_fix: ColorFix = "none",
    frames: Frames = "first",
    as_json: Json = False,
) -> None:
    """Enlarge pictures by any factor."""
    from deploy.bundle import Bundle
    from deploy.images.writing import Saving
    from deploy.packaged.places import FREE_SAMPLES, bundle_or_packaged
    from deploy.picture.jobs import Request, infer_pictures
    from deploy.picture.upscaler import Upscaler

    saving = Saving(format=format, quality=quality, strip_metadata=strip_metadata, color_fix=color_fix)
    opened = Bundle.open(bundle_or_packaged(bundle, say))
    request = Request(
        images=tuple(images or opened.sample_images()[:1] or FREE_SAMPLES[:1]),
        are_samples=not images,
        scale=scale,
        size=size_from_text(size) if size is not None else None,
        long_edge=long_edge,
        output=None if output is None else Path(output),
        output_is_folder=output is not None and output.endswith(("/", os.sep)),
        precision=precision,
        seed=seed,
        tile=tile,
        max_pixels=max_pixels,
        force=force,
        saving=saving,
        all_frames=frames == "all",
        choices=_choices(preset, equation, steps, start, consistency, eta, placement, published),
    )
    with (
        Upscaler(opened, engine, precision, threads, max_memory, device) as upscaler,
        shown_progress("infer") as progress,
    ):
        report = infer_pictures(upscaler, request, say=say, progress=progress)
    text = json.dumps(report, indent=1, sort_keys=True) if as_json else text_from_report(report)
    if text:  # nothing was made: what failed has been told on stderr
        typer.echo(text)
    if report["failed"]:
        raise typer.Exit(1)


def _choices(
    preset: str | None,
    equation: str | None,
    steps: int | None,
    start: float | None,
    consistency: float | None,
    eta: float | None,
    placement: str | None,
    published: bool,
) -> "Choices":
    from deploy.sampling.choices import Choices

    return Choices(
        preset=preset,
        equation=equation,
        steps=steps,
        start=start,
        consistency=consistency,
        eta=eta,
        placement=placement_from_text(placement) if placement is not None else None,
        published=published,
    )


def text_from_report(report: dict[str, Any]) -> str:
    """The lines that a person reads: what was made, what was there already; failures were told on stderr."""
    lines = [
        f"{row['output']}: {row['width']}x{row['height']}, {row['evaluations']} evaluations, {row['seconds']:.1f} s"
        + (f", tiles of {row['tile']}" if row["tile"] else "")
        for row in report["pictures"]
    ]
    return "\n".join(lines + [f"{path}: exists, skipped" for path in report["skipped"]])
