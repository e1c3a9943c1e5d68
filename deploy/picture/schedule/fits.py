"""Fitted equations, written into a bundle one by one, and presets that use them where the judge likes them better."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from msgspec.structs import replace as changed

from deploy.bundle import BundleWriter
from deploy.bundle.fitted import FittedEquation
from deploy.bundle.records import Preset
from deploy.errors import PlanError
from deploy.picture.schedule.choosing import MOST_EVALUATIONS, Judge
from deploy.picture.schedule.fitting import FitRequest, Fitter
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import DEFAULT_PRESET, PRESET_NAMES, Choices
from deploy.sampling.fitted import fitted_name, text_from_fitted
from deploy.sampling.stages import ONCE

SHARES_OF_SCALE = (1.0, 0.5)
"""At 4 times rows are fitted to pictures at 4 and 2 times, so that they hold for both and what lies between."""


@dataclass(frozen=True, kw_only=True)
class FitAsked:
    """What the caller said. start: 0 is pure noise. start, consistency, scale: None is as the default preset has it."""

    steps: tuple[int, ...]
    start: float | None = None
    consistency: float | None = None
    scale: float | None = None
    seed: int = 0
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class FittedRow:
    """An equation in the bundle. resumed: it was there already."""

    key: str
    steps: int
    entry: FittedEquation
    resumed: bool


def fit_bundle(
    upscaler: Upscaler,
    fitter: Fitter,
    requests: Sequence[FitRequest],
    *,
    force: bool,
    say: Callable[[str], None],
    progress: Callable[[str, float], None],
) -> list[FittedRow]:
    """Every equation asked for, fitted or found in the bundle, which is updated in place after each."""
    bundle, rows = upscaler.bundle, []
    whole, before = sum(request.steps for request in requests), 0
    for request in requests:
        name = fitted_name(request.steps)
        known = (bundle.manifest.fitted or {}).get(name)
        resumed = known is not None and not force and known.fitted_to.pictures == fitter.pictures
        resumed = resumed and known is not None and _is_as_asked(known, request, upscaler)
        if not resumed:
            entry = fitter.fit(request, partial(_tell_part, progress, before / whole, request.steps / whole))
            with BundleWriter.update(bundle) as writer:
                fitted = {**(bundle.manifest.fitted or {}), name: entry}
                bundle = writer.commit(replace(bundle.manifest, fitted=fitted))
            say(f"{name}: {text_from_fitted(entry)}")
        before += request.steps
        rows.append(
            FittedRow(key=name, steps=request.steps, entry=(bundle.manifest.fitted or {})[name], resumed=resumed)
        )
    return rows


def _tell_part(progress: Callable[[str, float], None], before: float, share: float, doing: str, done: float) -> None:
    progress(doing, before + share * done)


def prefer_fitted(upscaler: Upscaler, judge: Judge) -> None:
    """The bundle's balanced and best are what the judge likes best of them and of its fitted equations.

    Like `deploy.picture.schedule.choosing`: balanced has the fewest evaluations that lose no more than the judge can
    tell beside the best-looking single run, best spends up to MOST_EVALUATIONS. draft stays.
    """
    bundle = upscaler.bundle
    manifest = bundle.manifest
    default = manifest.presets[manifest.default_preset]
    ways = [manifest.presets[name] for name in PRESET_NAMES if name in manifest.presets]
    chosen = [Choices(preset=name, stages=ONCE) for name in PRESET_NAMES if name in manifest.presets]
    for name, equation in (manifest.fitted or {}).items():
        if not _can_run(upscaler, name):
            continue
        count = len(equation.steps)
        for draws in dict.fromkeys((1, max(MOST_EVALUATIONS // count, 1))):
            ways.append(_way(name, equation, draws, default))
            chosen.append(Choices(equation=name, draws=draws, stages=ONCE))
    looks = judge.looks(chosen)
    ways = [
        changed(way.with_measured(judge.name, look), measured_on=judge.where)
        for way, look in zip(ways, looks, strict=True)
    ]
    look_of = {id(way): look for way, look in zip(ways, looks, strict=True)}
    singles = [way for way in ways if (way.draws or 1) == 1]
    enough = max(look_of[id(way)] for way in singles) - judge.most_lost
    good = [way for way in singles if look_of[id(way)] >= enough]
    balanced = min(good, key=lambda way: (way.steps, -look_of[id(way)]))
    best = max(ways, key=lambda way: look_of[id(way)])
    presets = {**manifest.presets, DEFAULT_PRESET: balanced, PRESET_NAMES[-1]: best}
    with BundleWriter.update(bundle) as writer:
        writer.commit(replace(manifest, presets=presets, default_preset=DEFAULT_PRESET))


def _can_run(upscaler: Upscaler, name: str) -> bool:
    """Whether an equation is not of int8 graphs that are gone, for example."""
    try:
        upscaler.sampling(Choices(equation=name))
    except PlanError:
        return False
    return True


def _way(name: str, equation: FittedEquation, draws: int, default: Preset) -> Preset:
    """As a preset. Placement and eta are those of the default, for callers who change what the rows were fitted for."""
    return Preset(
        equation=name,
        steps=len(equation.steps),
        placement=default.placement if isinstance(default.placement, str) else None,  # levels are those of its steps
        start=equation.steps[0].noise_level if equation.from_guess else None,
        eta=default.eta,
        consistency=equation.consistency or None,
        stages=default.stages,
        draws=draws if draws > 1 else None,
        blend=default.blend,
    )


def _is_as_asked(known: FittedEquation, request: FitRequest, upscaler: Upscaler) -> bool:
    int8, fitted = upscaler.session.graphs.int8, known.fitted_to
    start = known.steps[0].noise_level if known.from_guess else None
    return (
        start == request.start
        and known.consistency == request.consistency
        and (fitted.scales, fitted.seed) == (request.scales, request.seed)
        and (fitted.engine, fitted.precision) == (upscaler.choice.backend, upscaler.choice.precision)
        and fitted.int8_sha256 == (None if int8 is None else int8.digest)
    )


def requests_for(upscaler: Upscaler, asked: FitAsked) -> list[FitRequest]:
    """One for each number of steps, with what nobody said in full."""
    current = upscaler.sampling(Choices(equation="ddim", start=asked.start, consistency=asked.consistency))
    begin = None
    if current.from_guess:
        placement = current.plan.placement
        begin = current.plan.start if isinstance(placement, str) else placement[0]
    manifest = upscaler.bundle.manifest
    scale = asked.scale or manifest.usual_scale
    trained = manifest.scale_range.trained
    least = 1.0 if trained is None else min(float(trained[0]), scale)
    scales = tuple(dict.fromkeys(max(scale * share, least) for share in SHARES_OF_SCALE))
    return [
        FitRequest(steps=count, start=begin, consistency=current.consistency, scales=scales, seed=asked.seed)
        for count in asked.steps
    ]
