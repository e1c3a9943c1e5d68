"""`idm-deploy evaluate`: what each way to sample costs and keeps, on a folder of originals."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from deploy.cli.commands.bench import load_and_cores, note_from_load
from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells
from deploy.cli.values import placement_from_text
from deploy.cli.ways import way_from_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.measure.evaluation.contenders import Setting
    from deploy.measure.evaluation.evaluate import Evaluation
    from deploy.measure.evaluation.measures import Measure
    from deploy.measure.evaluation.originals import Original
    from deploy.measure.evaluation.ways import Offered, Way


def evaluate(
    folder: Path | None = typer.Argument(
        None, help="Originals; packaged ones if not given: 24 crops of three held-out photographs."
    ),
    bundle: list[Path] = typer.Option([], "--bundle", help="A bundle's folder; found by itself if absent."),
    scale: list[float] = typer.Option([4.0], "--scale", "-s", help="How many times the LR pictures are smaller."),
    preset: list[str] = typer.Option([], "--preset", help="draft, balanced or best."),
    equation: list[str] = typer.Option([], "--equation", help="ddim, ddpm, dpmpp-2m or dpmpp-3m."),
    steps: list[int] = typer.Option([], "--steps", help="Evaluations of the network."),
    start: list[float] = typer.Option([], "--start", help="Noise level to begin at, 0..1; 0 is pure noise."),
    consistency: list[float] = typer.Option([], "--consistency", help="Pull towards the input at each step, 0..1."),
    eta: list[float] = typer.Option([], "--eta", help="Share of fresh noise in ddim, 0..1."),
    placement: list[str] = typer.Option([], "--placement", help="Where the steps lie; see `infer`."),
    published: bool = typer.Option(False, "--published", help="The authors' own sampler, without any improvement."),
    engine: list[str] = typer.Option(["auto"], "--engine", help="auto, or one that `doctor` lists."),
    precision: list[str] = typer.Option(["auto"], "--precision", help="auto, fp32, bf16, fp16 or int8."),
    setting: list[str] = typer.Option(
        [], "--setting", help='One row, such as "steps=20 precision=int8"; the other options say the rest, once each.'
    ),
    against: str | None = typer.Option(
        None, "--against", help="Name of the row that others are compared with; the one with the most steps if absent."
    ),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    device: int | None = typer.Option(None, "--device", help="Number of the GPU to run on, 0 is the first."),
    samples: int = typer.Option(1, "--samples", help="Draws of each picture; their mean gets a row of its own."),
    crop: int | None = typer.Option(None, "--crop", help="Take the middle N x N pixels of each original."),
    limit: int | None = typer.Option(None, "--limit", help="N originals only, spread evenly over their names."),
    seed: int = typer.Option(0, "--seed", help="Another number, other draws."),
    lpips: Path | None = typer.Option(None, "--lpips", help="Folder with the weights of LPIPS; nothing is downloaded."),
    output: Path | None = typer.Option(None, "--output", "-o", help="Folder for figures, tables, plot and sheets."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Measure fidelity, sharpness, consistency and colour on originals, beside two ways without a model.

    What samples can be given several times (bundles, engines, precisions, presets, equations, steps ..): every
    combination is a row, at every scale. Of rows that sample alike, those in float32 are what the others' pictures from
    the same noise are compared with.
    """
    from deploy.measure.evaluation.originals import read_originals
    from deploy.measure.evaluation.record import report_from_evaluations
    from deploy.measure.evaluation.report import write_report
    from deploy.measure.evaluation.ways import Offered
    from deploy.packaged.places import EVALUATION_IMAGES

    offered = Offered(
        bundles=_bundles(bundle),
        engines=engine,
        precisions=precision,
        presets=preset,
        equations=equation,
        steps=steps,
        starts=start,
        consistencies=consistency,
        etas=eta,
        placements=[placement_from_text(text) for text in placement],
        published=published,
    )
    ways = _ways(offered, setting)
    scales = sorted(set(scale))
    originals = {one: read_originals(folder or EVALUATION_IMAGES, one, crop=crop, limit=limit) for one in scales}
    measures, notes = _measures(lpips)
    busy = note_from_load(*load_and_cores())
    if busy is not None:
        notes.append(busy)
    with ExitStack() as stack:
        settings = _settings(stack, ways, threads, device, seed)
        _check_name(against, settings)
        results = _evaluations(originals, settings, samples, measures)
    if output is not None:
        write_report(results, output, baseline=against, notes=notes)
    if as_json:
        record = report_from_evaluations(results, against) | {"notes": notes}
        typer.echo(json.dumps(record, indent=1, sort_keys=True))
    else:
        _print(results, against, notes, output)
    if any(row.failure is not None for result in results for row in result.rows):
        raise typer.Exit(1)


def _bundles(named: Sequence[Path]) -> list[Path]:
    from deploy.packaged.places import bundle_or_packaged

    places: list[Path | None] = [*named] or [None]
    return [bundle_or_packaged(path, _say) for path in places]


def _ways(offered: "Offered", settings: Sequence[str]) -> "list[Way]":
    """Every combination of what the options offer, or the settings with the options as what they leave open."""
    ways = offered.ways()
    if not settings:
        return ways
    if len(ways) > 1:
        raise typer.BadParameter(
            f"with it, each option can be given once; these make {len(ways)} combinations.", param_hint="--setting"
        )
    return [way_from_text(text, ways[0]) for text in settings]


def _settings(
    stack: ExitStack, ways: "list[Way]", threads: int | None, device: int | None, seed: int
) -> "list[Setting]":
    from deploy.measure.evaluation.ways import opened_settings

    return opened_settings(stack, ways, threads=threads, device=device, seed=seed, notice=_say)


def _check_name(against: str | None, settings: "list[Setting]") -> None:
    names = [setting.name for setting in settings]
    if against is not None and against not in names:
        raise typer.BadParameter(f"no row is called {against!r}; there are {', '.join(names)}.", param_hint="--against")


def _measures(folder: Path | None) -> "tuple[Mapping[str, Measure], list[str]]":
    """What is measured, and why LPIPS is not if it is not; a folder that was named must hold its weights."""
    from deploy.errors import CheckpointError
    from deploy.measure.evaluation.measures import MEASURES, measures_with_lpips
    from deploy.measure.lpips import load_lpips

    try:
        return measures_with_lpips(load_lpips(folder)), []
    except CheckpointError as error:
        if folder is not None:
            raise
        return MEASURES, [f"LPIPS was not measured: {error}"]


def _evaluations(
    originals: "dict[float, list[Original]]",
    settings: "list[Setting]",
    samples: int,
    measures: "Mapping[str, Measure]",
) -> "list[Evaluation]":
    """One for each scale, from the smallest on; each but the first looks back at the scale before."""
    from deploy.measure.evaluation.contenders import MODEL_FREE
    from deploy.measure.evaluation.evaluate import evaluate

    smaller = {larger: less for less, larger in pairwise(originals)}
    results = []
    with shown_progress("evaluate") as progress:
        for number, (scale, pictures) in enumerate(originals.items()):

            def tell(doing: str, share: float, number: int = number) -> None:
                progress(doing, (number + share) / len(originals))

            result = evaluate(
                pictures,
                [*MODEL_FREE, *settings],
                scale=scale,
                samples=samples,
                smaller=smaller.get(scale),
                measures=measures,
                progress=tell,
            )
            results.append(result)
    return results


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(results: "list[Evaluation]", against: str | None, notes: list[str], output: Path | None) -> None:
    from deploy.measure.evaluation.tables import (
        comparison_from_evaluation,
        legend_from_evaluations,
        remarks_on,
        table_from_evaluation,
        title_from_evaluation,
    )

    for result in results:
        typer.echo(text_from_cells(title_from_evaluation(result), table_from_evaluation(result)))
        typer.echo("")
        compared = comparison_from_evaluation(result, against)
        if compared:
            typer.echo(text_from_cells("", compared))
            typer.echo("")
        remarks = remarks_on(result, against)
        if remarks:
            typer.echo("\n".join([*remarks, ""]))
    for line in [*legend_from_evaluations(results), *notes]:
        typer.echo(line)
    if output is not None:
        typer.echo(f"report: {output}")
