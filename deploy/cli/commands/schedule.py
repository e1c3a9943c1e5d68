"""`idm-deploy schedule`: find out where few steps should lie for this checkpoint."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.messages import say
from deploy.cli.options import FIRST, BundleToChange, Device, Engine, Json, Panel, Threads, checked_seed
from deploy.cli.progress import shown_progress
from deploy.cli.values import checked_usage

if TYPE_CHECKING:
    from deploy.bundle import Bundle
    from deploy.picture.schedule.fits import FitAsked, FittedRow
    from deploy.picture.schedule.presets import Row
    from deploy.picture.upscaler import Upscaler

SEARCHED_EQUATIONS = "ddim,dpmpp-2m"
SEARCH_SAMPLES = 2
SEARCH = Panel("How the search is done")
EXAMPLES = (
    "idm-deploy schedule ckpt.bundle",
    "idm-deploy schedule ckpt.bundle --steps 8,12 --equation ddim",
    "idm-deploy schedule ckpt.bundle --fit",
)


def schedule(
    bundle: BundleToChange = None,
    steps: Annotated[
        str | None,
        FIRST(
            "Numbers of steps, separated by commas; each takes a search. If left out, 1,2,3,5,8,12, and with --fit 2,3."
        ),
    ] = None,
    fit: Annotated[
        bool,
        FIRST(
            "Fit the steps' coefficients themselves to pictures whose originals are known, as equations fitted-2, "
            "fitted-3, and let balanced and best use them where that looks better.",
            "--fit",
        ),
    ] = False,
    equation: Annotated[str, FIRST("Solvers to place steps for, separated by commas.")] = "ddim,dpmpp-2m",
    presets: Annotated[
        bool, FIRST("Let the bundle's draft, balanced and best use what was found, or not.", "--presets/--no-presets")
    ] = True,
    force: Annotated[bool, FIRST("Search again what the bundle holds already.", "--force")] = False,
    image: Annotated[
        list[Path], SEARCH("A low-resolution picture to search with; repeatable. If left out, the bundle's samples.")
    ] = [],
    originals: Annotated[
        Path | None,
        SEARCH(
            "Folder of large pictures to judge the presets by, as SSIMULACRA2 sees them. If left out, the packaged "
            "calibration pictures."
        ),
    ] = None,
    samples: Annotated[int, SEARCH("How many pictures to search with.")] = SEARCH_SAMPLES,
    scale: Annotated[
        float | None,
        SEARCH(
            "How many times the search enlarges each side. If left out, 4, or what is nearest of the training's.",
            least=1,
        ),
    ] = None,
    start: Annotated[
        list[float],
        SEARCH(
            "Noise level, 0 to 1, that the enlarged input is given to begin with; 0 begins with pure noise; repeatable."
            " Placements are searched for the first. If left out, that of the default preset, and for presets also "
            "0.3, 0.5 and 0.7.",
            least=0,
            most=1,
        ),
    ] = [],
    consistency: Annotated[
        float | None,
        SEARCH(
            "How strongly pictures are pulled towards ones that shrink to the input, 0 to 1. If left out, that of "
            "the default preset.",
            least=0,
            most=1,
        ),
    ] = None,
    seed: Annotated[int, SEARCH("Which random noise the search begins with, from 0.", check=checked_seed)] = 0,
    engine: Engine = "auto",
    threads: Threads = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Search the placement of few steps for this checkpoint and store it, with presets, in the bundle.

    Presets are chosen by how pictures look (SSIMULACRA2) whose originals are known: draft has the fewest steps,
    balanced, the default, the fewest from which more are not told apart, best takes the mean of several pictures.
    """
    from deploy.bundle import Bundle, discover
    from deploy.bundle.manifest import USUAL_SCALE
    from deploy.measure.evaluation.choosing import judge_for, known_pictures
    from deploy.picture.options import ignore
    from deploy.picture.schedule.fits import FitAsked
    from deploy.picture.schedule.presets import ScheduleRequest, schedule_bundle, text_from_entry
    from deploy.picture.upscaler import Upscaler

    if fit:
        if image or len(start) > 1 or equation != SEARCHED_EQUATIONS or samples != SEARCH_SAMPLES:
            raise typer.BadParameter(
                "--fit needs pictures whose originals are known (--originals) and one --start; it takes no --image, "
                "--samples or --equation.",
                param_hint="--fit",
            )
        asked = FitAsked(
            steps=counts_from_text("2,3" if steps is None else steps),
            start=start[0] if start else None,
            consistency=consistency,
            scale=scale,
            seed=seed,
            force=force,
        )
        place = discover(explicit=bundle)
        opened = partial(Upscaler, engine=engine, threads=threads, device=device)
        _fit(place, asked, opened, originals=originals, presets=presets, as_json=as_json)
        return
    with checked_usage():
        request = ScheduleRequest(
            steps=counts_from_text("1,2,3,5,8,12" if steps is None else steps),
            equations=tuple(name.strip() for name in equation.split(",")),
            starts=tuple(start),
            consistency=consistency,
            images=tuple(image),
            samples=samples,
            scale=USUAL_SCALE if scale is None else scale,
            seed=seed,
            presets=presets,
            force=force,
        )
    with (
        Upscaler(Bundle.open(discover(explicit=bundle)), engine=engine, threads=threads, device=device) as upscaler,
        shown_progress("schedule") as progress,
    ):
        if scale is None:
            request = replace(request, scale=upscaler.bundle.manifest.usual_scale)
        # A person reads the results once, at the end; JSON has them beside the lines on stderr.
        judges = presets and request.measured != request.equations
        judge = judge_for(upscaler, request.scale, folder=originals, seed=seed, progress=progress) if judges else None
        known = known_pictures(upscaler, request.scale, folder=originals) if request.measured else ()
        rows = schedule_bundle(
            upscaler,
            request,
            say=say if as_json else ignore,
            say_measured=say,
            progress=progress,
            judge=judge,
            known=known,
        )
        place = upscaler.bundle.path
    if as_json:
        typer.echo(json.dumps([_json_of(row) for row in rows], indent=1, sort_keys=True))
        return
    for row in rows:
        remark = " (found in the bundle; --force searches again)" if row.resumed else ""
        typer.echo(text_from_entry(row.equation, row.steps, row.entry) + remark)
    if judges:
        _print_presets(place)


def _fit(
    place: Path,
    asked: "FitAsked",
    opened: "Callable[[Bundle], Upscaler]",
    *,
    originals: Path | None,
    presets: bool,
    as_json: bool,
) -> None:
    """Fit equations, store them in the bundle, and let its presets use them where that looks better."""
    from deploy.bundle import Bundle
    from deploy.measure.evaluation.choosing import judge_for
    from deploy.measure.ssimulacra2 import ssimulacra2
    from deploy.picture.options import ignore
    from deploy.picture.schedule.fits import fit_bundle, prefer_fitted, requests_for
    from deploy.picture.schedule.fitting import Fitter, Pair, check_model
    from deploy.sampling.fitted import text_from_fitted

    with shown_progress("schedule") as progress:
        with opened(Bundle.open(place)) as upscaler:
            check_model(upscaler.session.model)
            scale = asked.scale or upscaler.bundle.manifest.usual_scale
            judge = judge_for(upscaler, scale, folder=originals, seed=asked.seed, progress=progress)
            assert judge is not None
            with checked_usage():
                requests = requests_for(upscaler, asked)
            pairs = {
                each: [Pair(lr=original.lr, original=original.pixels) for original in judge.originals(each)]
                for each in requests[0].scales
            }
            fitter = Fitter(upscaler.session, pairs, ssimulacra2)
            said = say if as_json else ignore
            rows = fit_bundle(upscaler, fitter, requests, force=asked.force, say=said, progress=progress)
        if presets:
            # Opened again: the bundle holds the equations now.
            with opened(Bundle.open(place)) as upscaler:
                judge = judge_for(upscaler, scale, folder=originals, seed=asked.seed, progress=progress)
                assert judge is not None
                prefer_fitted(upscaler, judge)
    if as_json:
        printed = [{"equation": row.key, **_json_of(row)} for row in rows]
        typer.echo(json.dumps(printed, indent=1, sort_keys=True))
        return
    for row in rows:
        remark = " (found in the bundle; --force fits again)" if row.resumed else ""
        typer.echo(f"{row.key}: {text_from_fitted(row.entry)}{remark}")
    if presets:
        _print_presets(place)


def _json_of(row: "Row | FittedRow") -> dict[str, Any]:
    from deploy.bundle.records import json_from_records

    return {**asdict(row), "entry": json_from_records(row.entry)}


def _print_presets(place: Path) -> None:
    """What the presets of the bundle now are."""
    from deploy.bundle import Bundle
    from deploy.sampling.choices import PRESET_NAMES, Choices, sampling_from

    manifest = Bundle.open(place, verify="sizes").manifest
    typer.echo(f"presets in {place}:")
    for name in PRESET_NAMES:
        default = " (default)" if name == manifest.default_preset else ""
        look = manifest.presets[name].measured("ssimulacra2")
        judged = "" if look is None else f"; SSIMULACRA2 {look:.1f} on {manifest.presets[name].measured_on}"
        typer.echo(f"  {sampling_from(manifest, Choices(preset=name)).describe()}{judged}{default}")


def counts_from_text(text: str) -> tuple[int, ...]:
    """The whole numbers of "5,8,12"."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"{text!r} is no list of step counts; write them like 5,8,12.", param_hint="--steps")
    return tuple(dict.fromkeys(int(part) for part in parts))
