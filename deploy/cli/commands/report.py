"""`idm-deploy report`: one page about a bundle, to open from disk."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from deploy.cli.progress import Report, shown_progress

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.report.facts import Figures


def report(
    bundle: Path | None = typer.Argument(None, help="The bundle's folder; found by itself if there is only one here."),
    output: Path | None = typer.Option(None, "--output", "-o", help="The page; ./<name>-report/report.html."),
    bench: Path | None = typer.Option(None, "--bench", help="What `bench --json` printed: the page's speed."),
    evaluation: Path | None = typer.Option(
        None, "--evaluation", help="What `evaluate --json` printed, or evaluation.json: the page's quality."
    ),
    measure: bool = typer.Option(False, "--measure", help="Without --bench: time the engines here, a minute or two."),
    pictures: int = typer.Option(3, "--pictures", help="How many pictures to make and compare."),
    no_pictures: bool = typer.Option(False, "--no-pictures", help="Make none; nothing is run then."),
    originals: Path | None = typer.Option(
        None, "--originals", help="Folder of originals to reduce and enlarge; else the bundle's samples, or packaged."
    ),
    scale: float | None = typer.Option(None, "--scale", "-s", help="Magnification of the pictures; 4 where it fits."),
    engine: str = typer.Option("auto", "--engine", help="For the pictures: auto, or one that `doctor` lists."),
    threads: int | None = typer.Option(None, "--threads", help="Threads of the engine."),
    seed: int = typer.Option(0, "--seed", help="Another number, other draws."),
    force: bool = typer.Option(False, "--force", help="Replace a page that is there."),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
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
    place = bundle_or_packaged(bundle, _say)
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
        _say(f"idm-deploy: {name}: {why}")
    typer.echo(f"page: {outcome['page']}, {outcome['bytes'] / 1e6:.1f} MB")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
