"""`idm-deploy report`: one page about a bundle, to open from disk."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say, say_error
from deploy.cli.options import FOUND_OR_PACKAGED, Engine, Json, Threads
from deploy.cli.progress import Report, shown_progress

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.report.facts import Figures


FIGURES, PICTURES = "Figures on the page", "Pictures on the page"
EXAMPLES = (
    "idm-deploy report ckpt.bundle",
    "idm-deploy report ckpt.bundle --bench bench.json --evaluation judged.json",
)


def report(
    bundle: Annotated[Path | None, typer.Argument(help=FOUND_OR_PACKAGED)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the page. If left out, <bundle>-report/report.html."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a page that is there already.")] = False,
    bench: Annotated[
        Path | None,
        typer.Option(
            "--bench", rich_help_panel=FIGURES, help="File with what `bench --json` printed, for the chapter on speed."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            rich_help_panel=FIGURES,
            help="File with what `evaluate --json` printed, or its evaluation.json, for the chapter on quality.",
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", rich_help_panel=FIGURES, help="Instead of --bench: time the engines now, a minute or two."
        ),
    ] = False,
    pictures: Annotated[
        int,
        typer.Option("--pictures", rich_help_panel=PICTURES, help="How many pictures to enlarge and show."),
    ] = 3,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", rich_help_panel=PICTURES, help="Show no pictures; then nothing is run.")
    ] = False,
    originals: Annotated[
        Path | None,
        typer.Option(
            "--originals",
            rich_help_panel=PICTURES,
            help="Folder of large pictures that are reduced and enlarged again. If left out, the bundle's samples, "
            "else packaged ones.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            "-s",
            rich_help_panel=PICTURES,
            help="How many times each side is enlarged. If left out, 4, or what fits the pictures.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            rich_help_panel=PICTURES,
            help="Which random noise to begin with, from 0; another seed gives other versions of the fine detail.",
        ),
    ] = 0,
    engine: Engine = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page about a bundle: what it is, how it was made, what it costs, pictures."""
    from deploy.bundle import Bundle
    from deploy.packaged.places import bundle_or_packaged
    from deploy.report.facts import Facts, engine_decision, quantization_reports, read_figures
    from deploy.report.gallery import GallerySettings, make_gallery
    from deploy.report.page import page_from_facts, refuse_page_in_the_way, write_page

    if no_pictures and originals is not None:
        raise typer.BadParameter("--originals are for pictures; leave out --no-pictures.")
    if measure and bench is not None:
        raise typer.BadParameter("--bench brings the speed; leave out --measure.")
    place = bundle_or_packaged(bundle, say)
    target = output or default_page(place)
    refuse_page_in_the_way(target, force=force)
    timed = None if bench is None else read_figures(bench, "what `idm-deploy bench --json` printed")
    judged = None if evaluation is None else read_figures(evaluation, "what `idm-deploy evaluate --json` printed")
    opened = Bundle.open(place)
    quantization, calibration = quantization_reports(opened)
    settings = GallerySettings(
        pictures=pictures, originals=originals, scale=scale, engine=engine, threads=threads, seed=seed
    )
    with shown_progress("report") as progress:
        if measure:
            timed = _measured(opened, threads, _half(progress, 0))
        share = _half(progress, 1) if measure else progress
        gallery = None if no_pictures else make_gallery(opened, settings, share)
    facts = Facts(
        bundle=opened,
        bench=timed,
        evaluation=judged,
        quantization=quantization,
        calibration=calibration,
        engine=engine_decision(opened),
        gallery=gallery,
    )
    page = page_from_facts(facts)
    write_page(page, target)
    failures = {} if gallery is None else gallery.failures
    _tell({"page": str(target), "bytes": len(page.encode()), "failures": failures}, as_json)
    if failures:
        raise typer.Exit(1)


def default_page(bundle: Path) -> Path:
    """Beside what else is reported about the bundle."""
    return Path(f"{bundle.resolve().name.removesuffix('.bundle')}-report") / "report.html"


def _half(progress: Report, number: int) -> Report:
    return lambda doing, fraction: progress(doing, (number + fraction) / 2)


def _measured(bundle: "Bundle", threads: int | None, progress: Report) -> "Figures":
    from deploy.report.measuring import measured_speed

    return measured_speed(bundle, threads, progress)


def _tell(outcome: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(outcome, indent=1, sort_keys=True))
        return
    for name, why in outcome["failures"].items():
        say_error(f"{name}: {why}")
    typer.echo(f"page: {outcome['page']}, {outcome['bytes'] / 1e6:.1f} MB")
