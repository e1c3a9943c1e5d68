"""`idm-deploy evaluate`: what each way to sample costs and keeps, on a folder of originals."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.commands.bench import load_and_cores, note_from_load
from deploy.cli.messages import say
from deploy.cli.models import NamesModel
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
    one_of,
)
from deploy.cli.progress import shown_progress
from deploy.cli.tables import text_from_cells
from deploy.cli.values import placement_from_text, stages_from_text, way_from_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.measure.evaluation.contenders import Setting
    from deploy.measure.evaluation.evaluate import Evaluation
    from deploy.measure.evaluation.measures import Measure
    from deploy.measure.evaluation.originals import Original
    from deploy.measure.evaluation.protocols import Protocol
    from deploy.measure.evaluation.ways import Offered, Way


ORIGINALS = Panel("Originals and measures")
EXAMPLES = (
    "idm-deploy evaluate photographs --limit 8 -o judged",
    "idm-deploy evaluate --steps 8 --steps 20 --precision fp32 --precision int8",
)


def protocol_names() -> list[str]:
    """What `--protocol` offers."""
    from deploy.measure.evaluation.protocols import PROTOCOLS

    return list(PROTOCOLS)


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
        NamesModel(),
    ] = [],
    scale: Annotated[
        list[float],
        FIRST(
            "How many times the originals are reduced and enlarged again; repeatable. If left out, 4, or the nearest "
            "scale of the training where all bundles have the same.",
            "--scale",
            "-s",
        ),
    ] = [],
    output: Annotated[
        Path | None, FIRST("Folder for figures, tables, a plot and sheets of the pictures.", "--output", "-o")
    ] = None,
    against: Annotated[
        str | None,
        FIRST("Compare the other rows with the row of this name. If left out, with the one that looks best."),
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
        list[float], SAMPLING("Try pulling pictures so strongly towards ones that shrink to the input, 0 to 1.")
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
    stages: Annotated[
        list[str],
        SAMPLING(
            "Try these stages: auto, once, or how many times the network enlarges in each, such as 4 or 4,3.",
            complete=one_of("auto", "once", "4"),
        ),
    ] = [],
    published: Annotated[
        bool, SAMPLING("Sample exactly as the authors' code does, which takes long.", "--published")
    ] = False,
    samples: Annotated[
        int | None,
        SAMPLING(
            "How many versions of each picture to make, from different noise; their mean gets a row of its own. Of a "
            "model that makes pictures from noise alone, how many pictures. If left out, 1, or 16 of such a model."
        ),
    ] = None,
    seed: Seed = 0,
    crop: Annotated[int | None, ORIGINALS("Use only the middle of each original: so many pixels a side.")] = None,
    limit: Annotated[int | None, ORIGINALS("Use only so many originals, spread evenly over their names.")] = None,
    curve: Annotated[
        bool, ORIGINALS("Measure at 2, 4, 8, 12 and 16 times and tell quality over these scales.", "--curve")
    ] = False,
    protocol: Annotated[
        str | None,
        ORIGINALS(
            "Prepare your own copy of the data as a paper does: idm-faces-8x, div2k-4x or latent-selfssim.",
            complete=protocol_names,
        ),
    ] = None,
    lpips: Annotated[
        Path | None,
        ORIGINALS(
            "Folder with the weights of LPIPS, to measure that too. If left out, where PyTorch keeps downloads; "
            "nothing is downloaded."
        ),
    ] = None,
    dists: Annotated[
        Path | None,
        ORIGINALS("Folder with the weights of DISTS, to measure that too. If left out, where PyTorch keeps downloads."),
    ] = None,
    inception: Annotated[
        Path | None,
        ORIGINALS(
            "Folder with the weights of Inception, to hold generated pictures against those of the folder. If left "
            "out, where PyTorch keeps downloads."
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
    """Measure how results look, fidelity, consistency and colour on originals, beside two ways without a model.

    What samples can be given several times (bundles, engines, precisions, presets, equations, steps ..): every
    combination is a row, at every scale. Of rows that sample alike, those in float32 are what the others' pictures from
    the same noise are compared with.
    """
    from deploy.measure.evaluation.originals import read_originals
    from deploy.measure.evaluation.report import report_from_evaluations, write_report
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
        stages=[stages_from_text(text) for text in stages],
        published=published,
    )
    ways = _ways(offered, setting)
    prepared = _protocol(protocol, scale=scale, crop=crop, curve=curve)
    with ExitStack() as stack:
        settings = _settings(stack, ways, threads, device, seed)
        _check_name(against, settings)
        if any(setting.upscaler.session.model.generates for setting in settings):
            _evaluate_generation(settings, folder, samples, inception, output, as_json=as_json)
            return
        usual = {setting.upscaler.bundle.manifest.usual_scale for setting in settings}
        if protocol is None and not scale and not curve and len(usual) == 1:
            prepared = replace(prepared, scales=tuple(usual))
        if folder is None and prepared.data is not None:
            raise typer.BadParameter(
                f"name the folder of your own copy of the data: {prepared.data}.", param_hint="--protocol"
            )
        originals = {
            by: read_originals(folder or EVALUATION_IMAGES, by, crop=crop, limit=limit, lr_side=prepared.lr_side)
            for by in sorted(set(prepared.scales))
        }
        measures, notes = _measures(lpips, dists)
        busy = note_from_load(*load_and_cores())
        if busy is not None:
            notes.append(busy)
        results = _evaluations(
            originals, settings, 1 if samples is None else samples, measures, prepared.line(crop=crop)
        )
    if output is not None:
        write_report(results, output, baseline=against, notes=notes)
    if as_json:
        record = report_from_evaluations(results, against) | {"notes": notes}
        typer.echo(json.dumps(record, indent=1, sort_keys=True))
    else:
        _print(results, against, notes, output)
    if any(row.failure is not None for result in results for row in result.rows):
        raise typer.Exit(1)


def _evaluate_generation(
    settings: "list[Setting]",
    folder: Path | None,
    samples: int | None,
    inception: Path | None,
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """Pictures from noise alone, which have no originals: between sizes, between each other, beside real ones."""
    from deploy.errors import CheckpointError, PlanError
    from deploy.measure.evaluation.generation import (
        PICTURES,
        WITHOUT_ORIGINALS,
        evaluate_generation,
        picture_paths,
        real_features,
        reason_for_no_distribution,
        record_from_generation,
        table_from_generation,
    )
    from deploy.measure.evaluation.report import write_generation
    from deploy.measure.inception import LEAST, load_inception

    if not all(setting.upscaler.session.model.generates for setting in settings):
        raise PlanError("Models that enlarge and models that generate have no figure in common; evaluate them apart.")
    count = PICTURES if samples is None else samples
    real_count = None if folder is None else len(picture_paths(folder))
    reason = reason_for_no_distribution(count, real_count)
    if reason is not None and inception is not None:
        raise PlanError(f"{reason[0].upper()}{reason[1:]}. Make and name more, or leave out --inception.")
    notes = [] if reason is None else [reason]
    network = real = None
    with shown_progress("evaluate") as progress:
        if folder is not None and min(count, real_count or 0) >= min(LEAST.values()):
            try:
                network = load_inception(inception)
                real = real_features(folder, network, progress)
            except CheckpointError as error:
                if inception is not None:
                    raise
                notes = [f"FID, KID, precision and recall were not measured: {error}"]
        rows = evaluate_generation(settings, count, inception=network, real=real, progress=progress)
    title = f"{count} pictures from noise alone, each at several sizes of one latent"
    table, legend = table_from_generation(rows), [f"{row.name}: {row.text}" for row in rows]
    record = {"generation": record_from_generation(rows, count, real_count), "notes": notes}
    if output is not None:
        write_generation(output, record, title, table, [*legend, *notes])
    if as_json:
        typer.echo(json.dumps({**WITHOUT_ORIGINALS, **record}, indent=1, sort_keys=True))
        return
    typer.echo(text_from_cells(title, table) + "\n")
    typer.echo("\n".join([*legend, *notes]))


def _bundles(named: Sequence[Path]) -> list[Path]:
    from deploy.packaged.places import bundle_or_packaged

    places: list[Path | None] = [*named] or [None]
    return [bundle_or_packaged(path, say) for path in places]


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

    return opened_settings(stack, ways, threads=threads, device=device, seed=seed, notice=say)


def _check_name(against: str | None, settings: "list[Setting]") -> None:
    names = [setting.name for setting in settings]
    if against is not None and against not in names:
        raise typer.BadParameter(f"no row is called {against!r}; there are {', '.join(names)}.", param_hint="--against")


def _protocol(name: str | None, *, scale: Sequence[float], crop: int | None, curve: bool) -> "Protocol":
    """The protocol of that name, or the plain one at the scales asked for; what contradicts it is refused."""
    from deploy.measure.evaluation.protocols import CURVE, PLAIN, PROTOCOLS

    if curve and scale:
        raise typer.BadParameter("it says the scales; leave out --scale.", param_hint="--curve")
    if name is None:
        return replace(PLAIN, scales=CURVE if curve else tuple(scale) or PLAIN.scales)
    if name not in PROTOCOLS:
        raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(PROTOCOLS)}.", param_hint="--protocol")
    said = [option for option, value in (("--scale", scale), ("--crop", crop), ("--curve", curve)) if value]
    if said:
        raise typer.BadParameter(
            f"it says scales and cropping; leave out {' and '.join(said)}.", param_hint="--protocol"
        )
    return PROTOCOLS[name]


def _measures(lpips: Path | None, dists: Path | None) -> "tuple[Mapping[str, Measure], list[str]]":
    """What is measured, and why LPIPS and DISTS are not if they are not; a folder that was named must hold weights."""
    from deploy.errors import CheckpointError
    from deploy.measure.dists import load_dists
    from deploy.measure.evaluation.measures import measures_with
    from deploy.measure.lpips import load_lpips

    notes = []
    networks: dict[str, Any] = {}
    for name, load, folder in (("lpips", load_lpips, lpips), ("dists", load_dists, dists)):
        try:
            networks[name] = load(folder)
        except CheckpointError as error:
            if folder is not None:
                raise
            notes.append(f"{name.upper()} was not measured: {error}")
    return measures_with(**networks), notes


def _evaluations(
    originals: "dict[float, list[Original]]",
    settings: "list[Setting]",
    samples: int,
    measures: "Mapping[str, Measure]",
    protocol: str,
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
                protocol=protocol,
                progress=part_of(progress, number, len(originals)),
            )
            results.append(result)
    return results


def _print(results: "list[Evaluation]", against: str | None, notes: list[str], output: Path | None) -> None:
    from deploy.measure.evaluation.tables import (
        CURVES,
        comparison_from_evaluation,
        curve_from_evaluations,
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
    if len(results) > 1:
        for measure in CURVES:
            typer.echo(text_from_cells("", curve_from_evaluations(results, measure)))
            typer.echo("")
    for line in [*legend_from_evaluations(results), results[0].protocol, *notes]:
        typer.echo(line)
    if output is not None:
        typer.echo(f"report: {output}")
