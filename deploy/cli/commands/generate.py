"""`idm-deploy generate`: pictures from noise alone, from a bundle of an unconditional latent model."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import Report, shown_progress
from deploy.cli.values import size_from_text

if TYPE_CHECKING:
    from deploy.picture.run import Progress


def generate(
    size: list[str] = typer.Option([], "--size", help="WIDTHxHEIGHT; repeatable, every size is of the same pictures."),
    count: int = typer.Option(1, "--count", "-n", help="How many pictures."),
    output: Path = typer.Option(Path(), "--output", "-o", help="The folder for the pictures, made if it is not there."),
    bundle: Path | None = typer.Option(None, "--bundle", help="The bundle's folder; found if only one is here."),
    preset: str | None = typer.Option(None, "--preset", help="draft, balanced or best: how much work to spend."),
    equation: str | None = typer.Option(None, "--equation", help="ddim, ddpm, dpmpp-2m or dpmpp-3m."),
    steps: int | None = typer.Option(None, "--steps", help="Evaluations of the network."),
    seed: int = typer.Option(0, "--seed", help="Another number, other pictures."),
    engine: str = typer.Option("auto", "--engine", help="auto, or one that `doctor` lists."),
    precision: str = typer.Option("auto", "--precision", help="auto, fp32, bf16, fp16 or int8."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    device: int | None = typer.Option(None, "--device", help="Number of the GPU to run on, 0 is the first."),
    max_memory: str | None = typer.Option(None, "--max-memory", help="Memory of the process, such as 1GiB."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
    force: bool = typer.Option(False, "--force", help="Replace pictures that exist already."),
) -> None:
    """Make pictures from noise alone, each at any number of sizes."""
    from deploy.bundle import Bundle, discover
    from deploy.errors import ImageError
    from deploy.images.files import check_output, make_folder, write_image
    from deploy.picture.upscaler import Upscaler
    from deploy.sampling.choices import Choices

    sizes = [size_from_text(text) for text in size]
    opened = Bundle.open(discover(explicit=bundle))
    with (
        Upscaler(opened, engine, precision, threads, max_memory, device) as upscaler,
        shown_progress("generate") as progress,
    ):
        names = _names(count, sizes, seed)
        paths = [[output / name for name in row] for row in names]
        make_folder(output)
        for path in (path for row in paths for path in row):
            check_output(path)
            if path.exists() and not force:
                raise ImageError(f"{path} exists already. Choose another folder with -o, or replace it with --force.")
        made: list[dict[str, Any]] = []
        told: set[str] = set()
        for number, row in enumerate(paths):
            choices = Choices(preset=preset, equation=equation, steps=steps)
            (pictures,) = upscaler.generate(
                sizes,
                1,
                seed,
                choices=choices,
                sample=number,
                progress=partial(_tell_step, progress, number, count),
                notice=partial(_say_once, told),
            )
            for path, pixels in zip(row, pictures, strict=True):
                write_image(pixels, path)
                made.append({"output": str(path), "width": pixels.shape[1], "height": pixels.shape[0]})
    if as_json:
        typer.echo(json.dumps({"bundle": str(opened.path), "seed": seed, "pictures": made}, indent=1, sort_keys=True))
    else:
        typer.echo("\n".join(f"{row['output']}: {row['width']}x{row['height']}" for row in made))


def _names(count: int, sizes: list[tuple[int, int]], seed: int) -> list[list[str]]:
    """Per picture, the file name at each size."""
    endings = [f"_{width}x{height}" for width, height in sizes] or [""]
    return [[f"generated_{seed}_{number}{ending}.png" for ending in endings] for number in range(count)]


def _tell_step(progress: Report, number: int, count: int, done: "Progress") -> None:
    progress(f"picture {number + 1} of {count}, step {done.step}/{done.steps}", (number + done.fraction) / count)


def _say_once(told: set[str], line: str) -> None:
    """What is the same for all pictures is told with the first."""
    if line not in told:
        print(line, file=sys.stderr, flush=True)
    told.add(line)
