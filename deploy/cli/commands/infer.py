"""`idm-deploy infer`: pictures and folders in, larger pictures out, from a bundle alone."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deploy.cli.messages import is_quiet, say
from deploy.cli.options import (
    ENGINE,
    FIRST,
    PLACEMENTS,
    SAMPLING,
    Around,
    Background,
    Blend,
    BundleOptionOrPackaged,
    ColorFix,
    Device,
    Draws,
    Engine,
    Equation,
    Format,
    Frames,
    Json,
    MaxMemory,
    Panel,
    Precision,
    Preset,
    Quality,
    Seed,
    Stages,
    Steps,
    StripMetadata,
    Threads,
    one_of,
)
from deploy.cli.progress import shown_progress
from deploy.cli.values import (
    batch_from_text,
    checked_usage,
    crop_from_text,
    named_path,
    placement_from_text,
    size_from_text,
    stages_from_text,
    tile_from_options,
)

if TYPE_CHECKING:
    from deploy.cluster.run import ClusterRun
    from deploy.folders.dry_run import Plan
    from deploy.folders.outcome import Outcome
    from deploy.folders.request import Request
    from deploy.folders.run import Run
    from deploy.picture.upscaler import Upscaler
    from deploy.sampling.choices import Choices


EXAMPLES = (
    "idm-deploy infer photo.png --scale 4",
    "idm-deploy infer *.png --long-edge 2048 -o larger",
    "idm-deploy infer holiday --scale 2 -o holiday-larger --exclude 'raw*'",
    "idm-deploy infer photo.png --scale 4 --crop 200,100,64,64 --samples 4 -o a/",
)

CHOOSING = Panel("Which pictures, and what of them")
MAKING = Panel("How pictures are made one after another")

CLUSTER = Panel("On many machines")

MOST_LINES = 20
"""Results that are listed on a terminal after the bar has gone; of more, their number is told."""


def infer(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=named_path,
            metavar="[images]...",
            help="Pictures to enlarge (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG XL or HEIC), and folders, with all "
            "below them; - is standard input. If left out, a sample.",
        ),
    ] = None,
    scale: Annotated[
        float | None, FIRST("Enlarge each side this many times: any number from 1, such as 4 or 2.5.", "--scale", "-s")
    ] = None,
    size: Annotated[str | None, FIRST("Output size in pixels, such as 1920x1080.")] = None,
    long_edge: Annotated[
        int | None, FIRST("Pixels of the output's longer side; the other follows from the picture.")
    ] = None,
    fit: Annotated[
        str | None, FIRST("Largest output size within WIDTHxHEIGHT that keeps the picture's proportions.")
    ] = None,
    megapixels: Annotated[float | None, FIRST("Output size in millions of pixels, such as 12.")] = None,
    output: Annotated[
        str | None,  # not a path, which forgets that it ended in /
        FIRST(
            "File to write, or folder/ for all of them, made if it is not there; - is standard output. If left out, "
            "<picture>_x<scale>.png (or the input's format, see --format) in the current folder.",
            "--output",
            "-o",
            metavar="PATH",
        ),
    ] = None,
    bundle: BundleOptionOrPackaged = None,
    force: Annotated[
        bool,
        MAKING("Make pictures again that exist already, and write over files that are not this tool's.", "--force"),
    ] = False,
    include: Annotated[
        list[str],
        CHOOSING(
            "Of folders, only files that fit this pattern, such as *.jpg or 2024/*; repeatable. If left out, files "
            "with the suffix of a picture."
        ),
    ] = [],
    exclude: Annotated[list[str], CHOOSING("Of folders, no files or folders that fit this pattern; repeatable.")] = [],
    crop: Annotated[
        str | None,
        CHOOSING("Only this part of each picture, in its pixels: to try settings in seconds.", metavar="X,Y,W,H"),
    ] = None,
    samples: Annotated[
        int,
        CHOOSING("So many versions of each picture, from different noise, and a sheet that shows them side by side."),
    ] = 1,
    compare: Annotated[
        bool,
        CHOOSING(
            "Into each file, the input enlarged by bicubic interpolation on the left, the result on the right.",
            "--compare",
        ),
    ] = False,
    name: Annotated[
        str | None,
        CHOOSING(
            "Names of results, made of {stem}, {name} (with suffix), {ext}, {scale}, {size}, {seed} and {draw}, such "
            "as {stem}_x{scale}{ext}."
        ),
    ] = None,
    dry_run: Annotated[bool, MAKING("Only say what would be made: sizes, time and memory.", "--dry-run")] = False,
    batch: Annotated[
        str,
        MAKING(
            "How many pictures of one size are made together. auto: what is faster, by trying it, where that changes "
            "no byte.",
            complete=one_of("auto", "1", "4", "8"),
        ),
    ] = "auto",
    temporal_noise: Annotated[
        Literal["own", "fixed"],
        MAKING(
            "fixed: all pictures of a size are made from the same noise, so that frames of a film do not flicker. own:"
            " each picture from its own."
        ),
    ] = "own",
    preset: Preset = None,
    equation: Equation = None,
    steps: Steps = None,
    start: Annotated[
        float | None,
        SAMPLING(
            "Noise level, 0 to 1, that the enlarged input is given to begin with, which saves steps; 0 begins with "
            "pure noise instead.",
            least=0,
            most=1,
        ),
    ] = None,
    consistency: Annotated[
        float | None,
        SAMPLING(
            "How strongly pictures are pulled towards ones that shrink to the input: 0 not at all, 1 fully.",
            least=0,
            most=1,
        ),
    ] = None,
    eta: Annotated[
        float | None, SAMPLING("Fresh noise in each ddim step: 0 none, 1 as much as ddpm.", least=0, most=1)
    ] = None,
    placement: Annotated[
        str | None,
        SAMPLING(
            "At which noise levels the steps lie: uniform, logsnr, quadratic, searched (after `schedule`), or the "
            "levels themselves, such as 0.05,0.3,0.8.",
            complete=PLACEMENTS,
        ),
    ] = None,
    published: Annotated[
        bool,
        SAMPLING(
            "Sample exactly as the authors' code does: all of their steps, none of the improvements.", "--published"
        ),
    ] = False,
    stages: Stages = None,
    draws: Draws = None,
    blend: Blend = None,
    seed: Seed = 0,
    engine: Engine = "auto",
    precision: Precision = "auto",
    around: Around = "auto",
    threads: Threads = None,
    device: Device = None,
    max_memory: MaxMemory = None,
    tile: Annotated[
        int | None,
        ENGINE(
            "Make the picture in tiles of so many pixels a side, even if memory allows more. It comes out a little "
            "different. If left out, large pictures are made in tiles where that is faster and differs least.",
            least=1,
        ),
    ] = None,
    no_tile: Annotated[
        bool, ENGINE("Make the picture whole, as far as memory allows, even if tiles are faster.")
    ] = False,
    max_pixels: Annotated[
        int | None,
        ENGINE(
            "Most pixels of an input or output; pictures beyond it are refused. Give more to allow larger ones.",
            least=1,
        ),
    ] = None,
    format: Format = None,
    quality: Quality = None,
    strip_metadata: StripMetadata = False,
    color_fix: ColorFix = "none",
    background: Background = None,
    frames: Frames = "first",
    ray: Annotated[
        str | None,
        CLUSTER(
            "Make the pictures on this Ray cluster: HOST:PORT, auto (the one on this machine), or local (one that is "
            "started for this run). Pictures and -o may then be addresses, such as s3://bucket/photos.",
            metavar="ADDRESS",
        ),
    ] = None,
    cpus: Annotated[
        float | None, CLUSTER("With --ray, processors of each worker, 1 if left out; parts are allowed.", least=0)
    ] = None,
    gpus: Annotated[
        float | None,
        CLUSTER(
            "With --ray, GPUs of each worker, such as 0.5; if left out, 1 for engines that run on GPUs, else 0.",
            least=0,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Enlarge pictures by any factor."""
    from deploy.bundle import Bundle
    from deploy.folders.naming import check_names
    from deploy.folders.request import Request
    from deploy.folders.streams import STREAM
    from deploy.images.writing import Saving
    from deploy.packaged.places import FREE_SAMPLES, bundle_or_packaged
    from deploy.picture.upscaler import Upscaler

    opened = Bundle.open(bundle_or_packaged(bundle, say))
    pictures = tuple(images or opened.sample_images()[:1] or FREE_SAMPLES[:1])
    place = None if output is None else Path(output)
    is_folder = output is not None and (ray is not None or output.endswith(("/", os.sep)))
    if ray is None and (cpus, gpus) != (None, None):
        raise typer.BadParameter("it says what workers of a cluster take; name one with --ray.", param_hint="--cpus")
    if ray is not None and (dry_run or device is not None):
        hint = "--dry-run" if dry_run else "--device"
        raise typer.BadParameter("it is of one machine, and does not go with --ray.", param_hint=hint)
    with checked_usage():
        request = Request(
            images=pictures,
            are_samples=not images,
            scale=scale,
            size=size_from_text(size) if size is not None else None,
            long_edge=long_edge,
            fit=size_from_text(fit) if fit is not None else None,
            megapixels=megapixels,
            output=place,
            output_is_folder=is_folder,
            keeps_record=len(pictures) > 1 or samples > 1 or pictures[0].is_dir(),
            name=name,
            include=tuple(include),
            exclude=tuple(exclude),
            crop=crop_from_text(crop) if crop is not None else None,
            samples=samples,
            compare=compare,
            one_noise=temporal_noise == "fixed",
            batch=batch_from_text(batch),
            precision=precision,
            around=around,
            seed=seed,
            tile=tile_from_options(tile, no_tile=no_tile),
            max_pixels=max_pixels,
            force=force,
            saving=Saving(
                format=format,
                quality=quality,
                strip_metadata=strip_metadata,
                color_fix=color_fix,
                background=background,
            ),
            all_frames=frames == "all",
            choices=_choices(
                preset, equation, steps, start, consistency, eta, placement, stages, draws, blend, published
            ),
        )
        if request.output != STREAM:
            check_names(request)
    with Upscaler(opened, engine, precision, threads, max_memory, device, around) as upscaler:
        if dry_run:
            failed = _print_plans(upscaler, request, as_json)
        elif ray is not None:
            failed = _make_on_cluster(upscaler, request, as_json, ray, (cpus, gpus), threads, max_memory)
        else:
            failed = _make(upscaler, request, as_json)
    if failed:
        raise typer.Exit(1)


def _make(upscaler: "Upscaler", request: "Request", as_json: bool) -> bool:
    """Whether any picture failed."""
    from deploy.folders.run import Run
    from deploy.folders.streams import without_places

    with (
        _files_for(request, as_json) as (files, takes_stdout),
        shown_progress("infer") as progress,
        Run(upscaler, files, say=lambda line: say(without_places(line)), progress=progress) as run,
    ):
        return _print_outcomes(run, as_json, is_quiet_on_results=takes_stdout)


def _make_on_cluster(
    upscaler: "Upscaler",
    request: "Request",
    as_json: bool,
    address: str,
    share: tuple[float | None, float | None],
    threads: int | None,
    max_memory: str | None,
) -> bool:
    """The same for pictures that the workers of a cluster make."""
    from deploy.cluster.connection import check_installed
    from deploy.cluster.pool import Share
    from deploy.cluster.run import Cluster, ClusterRun, check_request

    check_installed()
    with checked_usage():
        cpus = 1.0 if share[0] is None else share[0]
        gpus = float(upscaler.choice.record.on_gpu) if share[1] is None else share[1]
        cluster = Cluster(
            address=address,
            share=Share(cpus=cpus, gpus=gpus),
            threads=threads or max(1, int(cpus)),
            memory=max_memory,
        )
        check_request(request)
    with shown_progress("infer") as progress, ClusterRun(upscaler, request, cluster, say=say, progress=progress) as run:
        return _print_outcomes(run, as_json)


def _print_outcomes(run: "Run | ClusterRun", as_json: bool, *, is_quiet_on_results: bool = False) -> bool:
    """Whether any picture failed; a line, or a JSON object, is printed of each as it is finished."""
    from deploy.folders.streams import without_places

    later: list[str] = []
    for outcome in run.outcomes():
        if as_json:
            typer.echo(without_places(json.dumps(outcome.as_json(), sort_keys=True)))
        elif not is_quiet_on_results and (line := text_from_outcome(outcome)):
            later.append(line)
            if not _is_bar_on_stdout():
                typer.echo(later.pop())
    if as_json:
        typer.echo(json.dumps({"kind": "run", **run.summary}, sort_keys=True))
    elif run.tally.total > 1:
        say(f"{run.tally.made} made, {run.tally.skipped} there already, {run.tally.failed} failed")
    if len(later) <= MOST_LINES:
        typer.echo("\n".join(later), nl=bool(later))
    return run.tally.failed > 0


def _is_bar_on_stdout() -> bool:
    """Whether lines on stdout would be drawn into a bar that is shown on the same terminal."""
    both = (sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in both) and not is_quiet()


def _print_plans(upscaler: "Upscaler", request: "Request", as_json: bool) -> bool:
    """Whether any picture would fail."""
    from deploy.folders.dry_run import DryRun
    from deploy.folders.streams import without_places
    from deploy.picture.memory import text_from_bytes
    from deploy.picture.outlook import text_from_seconds

    with (
        _files_for(request, False) as (files, _),
        DryRun(upscaler, files, say=lambda line: say(without_places(line))) as dry,
    ):
        for plan in dry.all_plans():
            text = json.dumps(plan.as_json(), sort_keys=True) if as_json else text_from_plan(plan)
            typer.echo(without_places(text))
        summary = dry.summary()
    if as_json:
        typer.echo(json.dumps({"kind": "plan", **summary}, sort_keys=True))
    else:
        seconds = summary["seconds"]
        time = "a time that is not known yet" if seconds is None else f"about {text_from_seconds(seconds)}"
        typer.echo(
            f"{summary['would_make']} to make ({summary['pixels'] / 1e6:.2f} megapixels), {time}, in about "
            f"{text_from_bytes(summary['memory_bytes'])} of memory; {summary['would_skip']} there already, "
            f"{summary['would_fail']} would fail"
        )
    return bool(summary["would_fail"])


@contextmanager
def _files_for(request: "Request", as_json: bool) -> "Iterator[tuple[Request, bool]]":
    """The request, with files in place of standard input and output; and whether the picture goes to the latter."""
    from deploy.folders.streams import STREAM, streamed, uses_streams

    if not uses_streams(request):
        yield request, False
        return
    takes_stdout = request.output in (None, STREAM)
    if as_json and takes_stdout:
        raise typer.BadParameter("standard output takes the picture; name a file with -o.", param_hint="--json")
    with streamed(request, sys.stdin.buffer, sys.stdout.buffer) as files:
        yield files, takes_stdout


def _choices(
    preset: str | None,
    equation: str | None,
    steps: int | None,
    start: float | None,
    consistency: float | None,
    eta: float | None,
    placement: str | None,
    stages: str | None,
    draws: int | None,
    blend: float | None,
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
        stages=stages_from_text(stages) if stages is not None else None,
        draws=draws,
        blend=blend,
        published=published,
    )


def text_from_outcome(outcome: "Outcome") -> str | None:
    """The line that a person reads on a picture; None where stderr has told all."""
    from deploy.folders.tally import shown

    if outcome.state == "failed":
        return None
    if outcome.state == "skipped" or outcome.size is None:
        return f"{shown(outcome.shown_output)}: exists, skipped"
    tiles = f", tiles of {outcome.tile}" if outcome.tile else ""
    output, (width, height) = shown(outcome.shown_output), outcome.size
    return f"{output}: {width}x{height}, {outcome.evaluations} evaluations, {outcome.seconds:.1f} s{tiles}"


def text_from_plan(plan: "Plan") -> str:
    """The line that a person reads on what would come of a picture."""
    from deploy.folders.tally import shown
    from deploy.picture.memory import text_from_bytes
    from deploy.picture.outlook import text_from_seconds

    files = f"{shown(plan.input)} -> {shown(plan.output)}"
    if plan.error is not None:
        return f"{files}: would fail: {plan.error}"
    if plan.lr is None or plan.size is None or plan.memory_bytes is None:
        return f"{files}: exists, would be skipped"
    time = "" if plan.seconds is None else f", about {text_from_seconds(plan.seconds)}"
    sizes = f"{plan.lr} -> {plan.size}"
    tiles = f", {plan.tiles} tiles" if plan.tiles and plan.tiles > 1 else ""
    return f"{files}: {sizes}{tiles}{time}, {text_from_bytes(plan.memory_bytes)}"
