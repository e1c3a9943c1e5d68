"""`idm-deploy infer`: pictures in, larger pictures out, from a bundle alone."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import shown_progress
from deploy.cli.values import placement_from_text, size_from_text, text_with_options

if TYPE_CHECKING:
    from deploy.sampling.choices import Choices


def infer(
    images: list[Path] | None = typer.Argument(None, help="PNG, JPEG or WebP; a sample picture if none is given."),
    scale: float | None = typer.Option(None, "--scale", "-s", help="How many times larger, such as 4 or 2.5."),
    size: str | None = typer.Option(None, "--size", help="Output size in pixels, WIDTHxHEIGHT."),
    long_edge: int | None = typer.Option(None, "--long-edge", help="Pixels of the output's longer side."),
    output: str | None = typer.Option(  # text, because a path forgets that it ended in /
        None,
        "--output",
        "-o",
        metavar="PATH",
        help="File, or folder/, which is made if it is not there; ./<image>_x<scale>.png if absent.",
    ),
    bundle: Path | None = typer.Option(
        None, "--bundle", help="The bundle's folder; found by itself if only one is here."
    ),
    preset: str | None = typer.Option(None, "--preset", help="draft, balanced or best: how much work to spend."),
    equation: str | None = typer.Option(None, "--equation", help="ddim, ddpm, dpmpp-2m or dpmpp-3m."),
    steps: int | None = typer.Option(None, "--steps", help="Evaluations of the network."),
    start: float | None = typer.Option(None, "--start", help="Noise level to begin at, 0..1; 0 is pure noise."),
    consistency: float | None = typer.Option(None, "--consistency", help="Pull towards the input at each step, 0..1."),
    eta: float | None = typer.Option(None, "--eta", help="Share of fresh noise in ddim, 0..1."),
    placement: str | None = typer.Option(
        None, "--placement", help="uniform, logsnr, quadratic, searched, or noise levels separated by commas."
    ),
    published: bool = typer.Option(False, "--published", help="The authors' own sampler, without any improvement."),
    seed: int = typer.Option(0, "--seed", help="Another number, another picture."),
    engine: str = typer.Option("auto", "--engine", help="auto, or one that `doctor` lists."),
    precision: str = typer.Option("auto", "--precision", help="auto, fp32, bf16, fp16 or int8."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    device: int | None = typer.Option(None, "--device", help="Number of the GPU to run on, 0 is the first."),
    max_memory: str | None = typer.Option(
        None, "--max-memory", help="Memory of the process, such as 1GiB; 60 % of what is free if not given."
    ),
    tile: int | None = typer.Option(
        None, "--tile", help="Side of the tiles in pixels, instead of what memory asks for."
    ),
    max_pixels: int | None = typer.Option(
        None, "--max-pixels", help="Limit on the pixels of inputs and outputs, to raise it."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
    force: bool = typer.Option(
        False,
        "--force",
        help="Make pictures again that exist already, and write over files that this tool did not make.",
    ),
) -> None:
    """Enlarge pictures by any factor."""
    from deploy.bundle import Bundle
    from deploy.packaged.places import FREE_SAMPLES, bundle_or_packaged
    from deploy.picture.jobs import Request, infer_pictures
    from deploy.picture.upscaler import Upscaler

    opened = Bundle.open(bundle_or_packaged(bundle, _say))
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
        choices=_choices(preset, equation, steps, start, consistency, eta, placement, published),
    )
    with (
        Upscaler(opened, engine, precision, threads, max_memory, device) as upscaler,
        shown_progress("infer") as progress,
    ):
        report = infer_pictures(upscaler, request, say=_say, progress=progress)
    text = json.dumps(report, indent=1, sort_keys=True) if as_json else text_from_report(report)
    if text:  # nothing was made: what failed has been told on stderr
        typer.echo(text)
    if report["failed"]:
        raise typer.Exit(1)


def _say(line: str) -> None:
    print(text_with_options(line), file=sys.stderr, flush=True)


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
