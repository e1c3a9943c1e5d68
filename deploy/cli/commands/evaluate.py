"""`idm-deploy evaluate`: what each way to sample costs and keeps, on a folder of originals."""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.commands.bench import load_and_cores, note_from_load
from deploy.cli.messages import say
from deploy.cli.options import (
    ENGINE,
    FIRST,
    PLACEMENTS,
    PRECISIONS,
    PRESETS,
    SAMPLING,
    Device,
    Json,
    Panel,
    Seed,
    Threads,
    engine_names,
    equation_names,
)
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result, text_from_cells
from deploy.cli.values import placement_from_text, way_from_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.measure.evaluation.contenders import Setting
    from deploy.measure.evaluation.evaluate import Evaluation
    from deploy.measure.evaluation.measures import Measure
    from deploy.measure.evaluation.originals import Original
    from deploy.measure.evaluation.ways import Offered, Way


ORIGINALS = Panel("Originals and measures")
EXAMPLES = (
    "idm-deploy evaluate photographs --limit 8 -o judged",
    "idm-deploy evaluate --steps 8 --steps 20 --precision fp32 --precision int8",
)


def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of large pictures, which are reduced, enlarged and compared. If left out, the packaged "
            "held-out set."
        ),
    ] = None,
    bundle: Annotated[
        list[Path],
        FIRST(
            "Folder of a bundle to judge; repeatable. If left out, the one in the current folder, else the packaged "
            "one."
        ),
    ] = [],
    scale: Annotated[
        list[float], FIRST("How many times the originals are reduced and enlarged again; repeatable.", "--scale", "-s")
    ] = [4.0],
    output: Annotated[
        Path | None, FIRST("Folder for figures, tables, a plot and sheets of the pictures.", "--output", "-o")
    ] = None,
    against: Annotated[
        str | None,
        FIRST("Compare the other rows with the row of this name. If left out, with the row of the most steps."),
    ] = None,
    setting: Annotated[
        list[str],
        SAMPLING(
            'Make this one row, such as "steps=20 precision=int8", instead of all combinations; repeatable. The other '
            "options then say the rest, once each."
        ),
    ] = [],
    preset: Annotated[list[str], SAMPLING("Try this preset: draft, balanced or best.", complete=PRESETS)] = [],
    equation: Annotated[
        list[str],
        SAMPLING(
            "Try this solver: ddim, ddpm, dpmpp-2m or dpmpp-3m.",
            complete=equation_names,
        ),
    ] = [],
    steps: Annotated[list[int], SAMPLING("Try running the network so often per picture.")] = [],
    start: Annotated[
        list[float],
        SAMPLING("Try beginning with the enlarged input at this noise level, 0 to 1; 0 begins with pure noise."),
    ] = [],
    consistency: Annotated[
        list[float], SAMPLING("Try pulling each step so strongly towards pictures that shrink to the input, 0 to 1.")
    ] = [],
    eta: Annotated[list[float], SAMPLING("Try this share of fresh noise in ddim steps, 0 to 1.")] = [],
    placement: Annotated[
        list[str],
        SAMPLING(
            "Try these noise levels for the steps: uniform, logsnr, quadratic, searched, or a list such as "
            "0.05,0.3,0.8.",
            complete=PLACEMENTS,
        ),
    ] = [],
    published: Annotated[
        bool, SAMPLING("Sample exactly as the authors' code does, which takes long.", "--published")
    ] = False,
    samples: Annotated[
        int,
        SAMPLING("How many versions of each picture to make, from different noise; their mean gets a row of its own."),
    ] = 1,
    seed: Seed = 0,
    crop: Annotated[int | None, ORIGINALS("Use only the middle of each original: so many pixels a side.")] = None,
    limit: Annotated[int | None, ORIGINALS("Use only so many originals, spread evenly over their names.")] = None,
    lpips: Annotated[
        Path | None,
        ORIGINALS(
            "Folder with the weights of LPIPS, to measure that too. If left out, where PyTorch keeps downloads; "
            "nothing is downloaded."
        ),
    ] = None,
    engine: Annotated[
        list[str], ENGINE("Try this engine, or auto; `doctor` lists them; repeatable.", complete=engine_names)
    ] = ["auto"],
    precision: Annotated[
        list[str],
        ENGINE(
            "Try this number format: fp32, bf16, fp16, int8 or auto; repeatable.",
            complete=PRECISIONS,
        ),
    ] = ["auto"],
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure fidelity, sharpness, consistency and colour on originals, beside two ways without a model.

    What samples can be given several times (bundles, engines, precisions, presets, equations, steps ..): every
    combination is a row, at every scale. Of rows that sample alike, those in float32 are what the others' pictures from
    the same noise are compared with.
    """
    from deploy.measure.evaluation.originals import read_originals
    from deploy.measure.evaluation.report import report_from_evaluations, write_report
    from deploy.measure.evaluation.ways import Offered, opened_settings
    from deploy.packaged.places import EVALUATION_IMAGES, bundle_or_packaged

    offered = Offered(
        bundles=[bundle_or_packaged(path, say) for path in bundle] or [bundle_or_packaged(None, say)],
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
    originals = {by: read_originals(folder or EVALUATION_IMAGES, by, crop=crop, limit=limit) for by in scales}
    measures, notes = _measures(lpips)
    busy = note_from_load(*load_and_cores())
    if busy is not None:
        notes.append(busy)
    with ExitStack() as stack:
        settings = opened_settings(stack, ways, threads=threads, device=device, seed=seed, notice=say)
        names = [setting.name for setting in settings]
        if against is not None and against not in names:
            raise typer.BadParameter(
                f"no row is called {against!r}; there are {', '.join(names)}.", param_hint="--against"
            )
        results = _evaluations(originals, settings, samples, measures)
    if output is not None:
        write_report(results, output, baseline=against, notes=notes)
    record = report_from_evaluations(results, against) | {"notes": notes}
    print_result(record, lambda: _print(results, against, notes, output), as_json=as_json)
    if any(row.failure is not None for result in results for row in result.rows):
        raise typer.Exit(1)


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
    """The evaluation at each scale, from the smallest on; each but the first looks back at the scale before."""
    from deploy.measure.evaluation.contenders import MODEL_FREE
    from deploy.measure.evaluation.evaluate import evaluate
    from engines.progress import part_of

    smaller = {larger: less for less, larger in pairwise(originals)}
    results = []
    with shown_progress("evaluate") as progress:
        for number, (scale, pictures) in enumerate(originals.items()):
            result = evaluate(
                pictures,
                [*MODEL_FREE, *settings],
                scale=scale,
                samples=samples,
                smaller=smaller.get(scale),
                measures=measures,
                progress=part_of(progress, number, len(originals)),
            )
            results.append(result)
    return results


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
