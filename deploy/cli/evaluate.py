"""`idm-deploy evaluate`: what each way to sample costs and keeps, on a folder of originals."""

import json
import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells
from deploy.cli.values import placement_from_text

if TYPE_CHECKING:
    from deploy.evaluation.contenders import Setting
    from deploy.evaluation.evaluate import Evaluation
    from deploy.runtime.settings import Choices


def evaluate(
    folder: Path | None = typer.Argument(None, help="Originals; the packaged held-out set if not given."),
    bundle: list[Path] = typer.Option([], "--bundle", help="A bundle's folder; found by itself if absent; repeatable."),
    scale: float = typer.Option(4.0, "--scale", "-s", help="How many times the LR pictures are smaller."),
    preset: list[str] = typer.Option([], "--preset", help="draft, balanced or best; repeatable."),
    equation: str | None = typer.Option(None, "--equation", help="ddim, ddpm, dpmpp-2m or dpmpp-3m."),
    steps: int | None = typer.Option(None, "--steps", help="Evaluations of the network."),
    start: float | None = typer.Option(None, "--start", help="Noise level to begin at, 0..1; 0 is pure noise."),
    consistency: float | None = typer.Option(None, "--consistency", help="Pull towards the input at each step, 0..1."),
    eta: float | None = typer.Option(None, "--eta", help="Share of fresh noise in ddim, 0..1."),
    placement: str | None = typer.Option(None, "--placement", help="Where the steps lie; see `infer`."),
    published: bool = typer.Option(False, "--published", help="The authors' own sampler, without any improvement."),
    engine: str = typer.Option("auto", "--engine", help="auto, or one that `doctor` lists."),
    precision: list[str] = typer.Option(["auto"], "--precision", help="auto, fp32, bf16, fp16 or int8; repeatable."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    samples: int = typer.Option(1, "--samples", help="Draws of each picture; their mean gets a row of its own."),
    crop: int | None = typer.Option(None, "--crop", help="Take the middle N x N pixels of each original."),
    limit: int | None = typer.Option(None, "--limit", help="The first N originals only."),
    seed: int = typer.Option(0, "--seed", help="Another number, other draws."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder for figures, table and contact sheets."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Measure fidelity, sharpness, consistency and colour on originals, beside two ways without a model.

    Of several bundles or precisions the first is the reference: the pictures of the others are compared with its own
    from the same noise as well.
    """
    from deploy.demo.packaged import EVALUATION_IMAGES, bundle_or_packaged
    from deploy.evaluation.contenders import MODEL_FREE
    from deploy.evaluation.evaluate import evaluate as evaluated
    from deploy.evaluation.evaluate import report_from_evaluation
    from deploy.evaluation.originals import read_originals
    from deploy.evaluation.report import write_report
    from deploy.runtime.settings import Choices

    listed = placement_from_text(placement) if placement is not None else None
    presets: list[str | None] = [*preset] or [None]
    places: list[Path | None] = [*bundle] or [None]
    choices = [
        Choices(
            preset=name,
            equation=equation,
            steps=steps,
            start=start,
            consistency=consistency,
            eta=eta,
            placement=listed,
            published=published,
        )
        for name in presets
    ]
    originals = read_originals(folder or EVALUATION_IMAGES, scale, crop=crop, limit=limit)
    bundles = [bundle_or_packaged(path, _say) for path in places]
    with ExitStack() as stack, shown_progress("evaluate") as progress:
        settings = _settings(stack, bundles, engine, precision, threads, choices, seed)
        compared = len(bundles) > 1 or len(precision) > 1
        result = evaluated(
            originals,
            [*MODEL_FREE, *settings],
            scale=scale,
            samples=samples,
            reference=settings[0].name if compared else None,
            progress=progress,
        )
    if output is not None:
        write_report(result, output)
    if as_json:
        typer.echo(json.dumps(report_from_evaluation(result), indent=1, sort_keys=True))
    else:
        _print(result)
        if output is not None:
            typer.echo(f"report: {output}")
    if any(row.failure is not None for row in result.rows):
        raise typer.Exit(1)


def _settings(
    stack: ExitStack,
    bundles: list[Path],
    engine: str,
    precisions: list[str],
    threads: int | None,
    choices: "list[Choices]",
    seed: int,
) -> "list[Setting]":
    """Every bundle in every precision with every preset; names say only what differs. All are checked now."""
    from deploy.bundle import Bundle
    from deploy.evaluation.contenders import Setting
    from deploy.runtime.upscaler import Upscaler

    settings: list[Setting] = []
    for path in bundles:
        opened = Bundle.open(path)
        for precision in precisions:
            upscaler = stack.enter_context(Upscaler(opened, engine=engine, precision=precision, threads=threads))
            for choice in choices:
                sampling = upscaler.sampling(choice)
                parts = [
                    path.name if len(bundles) > 1 else "",
                    upscaler.choice.precision if len(precisions) > 1 else "",
                    sampling.preset or "published",
                ]
                name = _new_name(" ".join(part for part in parts if part), {setting.name for setting in settings})
                settings.append(Setting(name=name, upscaler=upscaler, choices=choice, seed=seed))
    return settings


def _new_name(name: str, taken: set[str]) -> str:
    """`name`, numbered where it is taken: bundles of one name in two folders, a preset given twice."""
    numbered = (f"{name} ({number})" for number in count(2))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(result: "Evaluation") -> None:
    from deploy.evaluation.report import table_from_evaluation

    title = f"{len(result.originals)} originals at {result.scale:g}x, means with 95 % intervals"
    typer.echo(text_from_cells(title, table_from_evaluation(result)))
    typer.echo("")
    for row in result.rows:
        if row.failure is None:
            typer.echo(f"{row.name}: {row.description}")
