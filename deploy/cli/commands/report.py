"""`idm-deploy report`: one page about a bundle, to open from disk."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.cli.messages import say, say_error
from deploy.cli.options import FIRST, BundleOrPackaged, Engine, Json, Panel, Threads, checked_seed
from deploy.cli.progress import shown_progress
from deploy.cli.tables import print_result
from deploy.cli.values import checked_usage
from engines.progress import part_of

FIGURES, PICTURES = Panel("Figures on the page"), Panel("Pictures on the page")
EXAMPLES = (
    "idm-deploy report ckpt.bundle",
    "idm-deploy report ckpt.bundle --bench bench.json --evaluation judged.json",
)


def report(
    bundle: BundleOrPackaged = None,
    output: Annotated[
        Path | None, FIRST("File for the page. If left out, <bundle>-report/report.html.", "--output", "-o")
    ] = None,
    force: Annotated[bool, FIRST("Replace a page that is there already.", "--force")] = False,
    bench: Annotated[Path | None, FIGURES("File with what `bench --json` printed, for the chapter on speed.")] = None,
    evaluation: Annotated[
        Path | None,
        FIGURES("File with what `evaluate --json` printed, or its evaluation.json, for the chapter on quality."),
    ] = None,
    measure: Annotated[
        bool, FIGURES("Instead of --bench: time the engines now, a minute or two.", "--measure")
    ] = False,
    pictures: Annotated[int, PICTURES("How many pictures to enlarge and show.", least=1)] = 3,
    no_pictures: Annotated[bool, PICTURES("Show no pictures; then nothing is run.", "--no-pictures")] = False,
    originals: Annotated[
        Path | None,
        PICTURES(
            "Folder of large pictures that are reduced and enlarged again. If left out, the bundle's samples, else "
            "packaged ones."
        ),
    ] = None,
    scale: Annotated[
        float | None,
        PICTURES(
            "How many times each side is enlarged. If left out, 4, or what fits the pictures.", "--scale", "-s", least=1
        ),
    ] = None,
    seed: Annotated[
        int,
        PICTURES(
            "Which random noise to begin with, from 0; another seed gives other versions of the fine detail.",
            check=checked_seed,
        ),
    ] = 0,
    engine: Engine = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page about a bundle: what it is, how it was made, what it costs, pictures."""
    from deploy.bundle import Bundle
    from deploy.packaged.places import bundle_or_packaged
    from deploy.report.facts import Facts, engine_decision, measured_speed, quantization_reports, read_figures
    from deploy.report.gallery import GallerySettings, make_gallery
    from deploy.report.page import page_from_facts, refuse_page_in_the_way, write_page

    if no_pictures and originals is not None:
        raise typer.BadParameter("--originals are for pictures; leave out --no-pictures.")
    if measure and bench is not None:
        raise typer.BadParameter("--bench brings the speed; leave out --measure.")
    place = bundle_or_packaged(bundle, say, named="behind the command")
    target = output or default_page(place)
    refuse_page_in_the_way(target, force=force)
    timed = None if bench is None else read_figures(bench, "what `idm-deploy bench --json` printed")
    judged = None if evaluation is None else read_figures(evaluation, "what `idm-deploy evaluate --json` printed")
    opened = Bundle.open(place)
    quantization, calibration = quantization_reports(opened)
    with checked_usage():
        settings = GallerySettings(
            pictures=pictures, originals=originals, scale=scale, engine=engine, threads=threads, seed=seed
        )
    with shown_progress("report") as progress:
        if measure:
            timed = measured_speed(opened, threads, part_of(progress, 0, 2))
        share = part_of(progress, 1, 2) if measure else progress
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
    outcome = {"page": str(target), "bytes": len(page.encode()), "failures": failures}
    print_result(outcome, lambda: _print(outcome), as_json=as_json)
    if failures:
        raise typer.Exit(1)


def default_page(bundle: Path) -> Path:
    """Beside what else is reported about the bundle."""
    return Path(f"{bundle.resolve().name.removesuffix('.bundle')}-report") / "report.html"


def _print(outcome: dict[str, Any]) -> None:
    for name, why in outcome["failures"].items():
        say_error(f"{name}: {why}")
    typer.echo(f"page: {outcome['page']}, {outcome['bytes'] / 1e6:.1f} MB")
