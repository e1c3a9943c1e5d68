"""`idm-deploy generate`: pictures from noise alone, from a bundle of an unconditional latent model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import (
    FIRST,
    SAMPLING,
    BundleOption,
    Device,
    Engine,
    Equation,
    Json,
    MaxMemory,
    Precision,
    Preset,
    Steps,
    Threads,
    checked_seed,
)
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result
from deploy.cli.values import size_from_text
from engines.progress import Progress

if TYPE_CHECKING:
    from deploy.picture.run import Progress as StepProgress

EXAMPLES = (
    "idm-deploy generate --count 4",
    "idm-deploy generate --size 256x256 --size 512x512 -o pictures",
)


def generate(
    size: Annotated[
        list[str],
        FIRST(
            "Size of the pictures in pixels, such as 256x256; give it several times for the same pictures at several "
            "sizes. If left out, the size of the training."
        ),
    ] = [],
    count: Annotated[int, FIRST("How many different pictures to make.", "--count", "-n", least=1)] = 1,
    output: Annotated[Path, FIRST("Folder for the pictures, made if it is not there.", "--output", "-o")] = Path(),
    bundle: BundleOption = None,
    force: Annotated[bool, FIRST("Replace pictures that exist already.", "--force")] = False,
    preset: Preset = None,
    equation: Equation = None,
    steps: Steps = None,
    seed: Annotated[
        int,
        SAMPLING(
            "Which random noise to make the pictures from, from 0. The same seed gives the same pictures again; "
            "another seed gives others.",
            check=checked_seed,
        ),
    ] = 0,
    engine: Engine = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    device: Device = None,
    max_memory: MaxMemory = None,
    as_json: Json = False,
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
        rows: list[dict[str, Any]] = []
        lines_said: set[str] = set()
        for number, row in enumerate(paths):
            choices = Choices(preset=preset, equation=equation, steps=steps)
            (pictures,) = upscaler.generate(
                sizes,
                1,
                seed,
                choices=choices,
                sample=number,
                progress=partial(_tell_step, progress, number, count),
                notice=partial(_say_once, lines_said),
            )
            for path, pixels in zip(row, pictures, strict=True):
                write_image(pixels, path)
                rows.append({"output": str(path), "width": pixels.shape[1], "height": pixels.shape[0]})
    report = {"bundle": str(opened.path), "seed": seed, "pictures": rows}
    lines = [f"{row['output']}: {row['width']}x{row['height']}" for row in rows]
    print_result(report, lambda: typer.echo("\n".join(lines)), as_json=as_json)


def _names(count: int, sizes: list[tuple[int, int]], seed: int) -> list[list[str]]:
    """Per picture, the file name at each size."""
    endings = [f"_{width}x{height}" for width, height in sizes] or [""]
    return [[f"generated_{seed}_{number}{ending}.png" for ending in endings] for number in range(count)]


def _tell_step(progress: Progress, number: int, count: int, done: "StepProgress") -> None:
    progress(f"picture {number + 1} of {count}, step {done.step}/{done.steps}", (number + done.fraction) / count)


def _say_once(said: set[str], line: str) -> None:
    """Says what holds for all pictures with the first of them only."""
    if line not in said:
        say(line)
    said.add(line)
