"""Searched placements and measured presets, written into a bundle one by one, so that a stopped search resumes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as changed

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset, SearchedPlacement
from deploy.errors import BundleError, PlanError
from deploy.images.files import read_image
from deploy.images.sizes import Size, output_size
from deploy.images.values import network_from_pixels
from deploy.picture.generation import NO_PICTURE
from deploy.picture.schedule.choosing import STARTS, Chooser, Judge
from deploy.picture.schedule.measuring import KnownPicture, measure_noise, with_measured_noise
from deploy.picture.schedule.search import Found, PlacementSearch, Sample, Setting
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import DEFAULT_PRESET, PRESET_NAMES, Choices, placement_key
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.noise import image_key
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.plan import MeasuredNoise

LARGEST_LR_SIDE = 32
"""Samples are cut to this many pixels a side: a placement does not depend on the size of the picture."""


@dataclass(frozen=True, kw_only=True)
class ScheduleRequest:
    """What to search and to choose from. `equations` and `starts` are tried against each other.

    starts: noise levels to begin at, 0 for pure noise; placements are searched for the first. None said: that of the
    default preset, and for presets some beside it. consistency: None is the default preset's.
    """

    steps: tuple[int, ...] = (1, 2, 3, 5, 8, 12)
    equations: tuple[str, ...] = ("ddim", "dpmpp-2m")
    starts: tuple[float, ...] = ()
    consistency: float | None = None
    images: tuple[Path, ...] = ()  # none: the bundle's samples
    samples: int = 2
    scale: float = 4.0
    seed: int = 0
    presets: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if not self.steps or not self.equations or self.samples < 1:
            raise PlanError("The search needs at least one number of steps, one equation and one sample.")

    @property
    def measured(self) -> tuple[str, ...]:
        """Those of the equations that rest on what is measured of the network."""
        return tuple(name for name in self.equations if name in EQUATIONS and EQUATIONS[name].is_measured)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A placement in the bundle: `entry` is what its manifest says."""

    key: str
    equation: str
    steps: int
    entry: SearchedPlacement
    resumed: bool


def schedule_bundle(
    upscaler: Upscaler,
    request: ScheduleRequest,
    *,
    say: Callable[[str], None],
    progress: Callable[[str, float], None],
    judge: Judge | None = None,
    known: Sequence[KnownPicture] = (),
    say_measured: Callable[[str], None] | None = None,
) -> list[Row]:
    """Every placement asked for, searched or found in the bundle; at the end the presets use them.

    Of equations that rest on the predicted noise nothing is searched: that noise is measured, on `known` pictures, and
    told to `say_measured`, or to `say`.

    Which ways these are, the judge says. Without one, the placements that end nearest to the run of many steps are
    taken, and the default stays.
    """
    if measured := request.measured:
        noise = measure_noise(
            upscaler.session.model, upscaler.session.schedule, known, seed=request.seed, progress=progress
        )
        bundle = with_measured_noise(upscaler.bundle, noise)
        (say_measured or say)(text_from_noise(measured, noise, len(known)))
        searched = tuple(equation for equation in request.equations if equation not in measured)
        if not searched:
            return []
        request = replace(request, equations=searched)
    else:
        bundle = upscaler.bundle
    said = request.starts[0] if request.starts else None
    current = upscaler.sampling(Choices(start=said, consistency=request.consistency))
    start = None
    if current.from_guess:
        placement = current.plan.placement
        start = current.plan.start if isinstance(placement, str) else placement[0]
    samples = _samples(upscaler, request)
    counted = _Counter(progress)
    rows: list[Row] = []
    searches = {
        equation: PlacementSearch(
            upscaler.session.model,
            upscaler.session.schedule,
            samples,
            Setting(equation=equation, start=start, consistency=current.consistency),
            after_evaluation=counted,
        )
        for equation in request.equations
    }
    missing = [
        (equation, steps)
        for equation in request.equations
        for steps in sorted(request.steps)
        if request.force or not _is_done(bundle, placement_key(equation, steps, start), current.consistency)
    ]
    dense = {equation for equation, _ in missing}
    counted.total = sum(searches[equation].evaluations(steps) for equation, steps in missing)
    counted.total += sum(searches[equation].dense_evaluations for equation in dense)
    for equation in request.equations:
        for steps in sorted(request.steps):
            key = placement_key(equation, steps, start)
            resumed = (equation, steps) not in missing
            if not resumed:
                counted.doing = f"{equation}, {steps} steps"
                found = searches[equation].find(steps)
                entry = entry_from_found(found, request, current.consistency, len(samples))
                bundle = _with_placement(bundle, key, entry)
                say(text_from_entry(equation, steps, entry))
            rows.append(
                Row(key=key, equation=equation, steps=steps, entry=bundle.manifest.placements[key], resumed=resumed)
            )
    if request.presets:
        _store_presets(upscaler, bundle, request, rows, start, current.consistency, judge)
    return rows


def entry_from_found(found: Found, request: ScheduleRequest, consistency: float, samples: int) -> SearchedPlacement:
    """What the bundle records of a placement: the levels, and the evidence for them."""
    return SearchedPlacement(
        noise_levels=found.noise_levels,
        distance=found.distance,
        origin=found.origin,
        rules=found.rules,
        consistency=consistency,
        scale=request.scale,
        samples=samples,
        seed=request.seed,
    )


def text_from_noise(equations: Sequence[str], noise: MeasuredNoise, pictures: int) -> str:
    """What was measured, in one line."""
    where = f"measured on {pictures} picture{'s' if pictures > 1 else ''} at {len(noise.noise_levels)} levels"
    squares = f"{noise.mean_squares[0]:.4f} at the noisiest and {noise.mean_squares[-1]:.4f} at the cleanest"
    return f"{', '.join(equations)}: the predicted noise, {where}, has a mean square of {squares}"


def text_from_entry(equation: str, steps: int, entry: SearchedPlacement) -> str:
    """What was gained over the uniform placement and over the best rule, in one line."""
    rules, distance = entry.rules, entry.distance
    if distance is None or not rules or "uniform" not in rules:
        return f"{equation}, {steps} steps: how near they end is not recorded"
    best = min(rules, key=lambda name: rules[name])
    gain = 20 * np.log10(rules["uniform"] / distance) if distance else 0.0
    over_best = 20 * np.log10(rules[best] / distance) if distance else 0.0
    won = "" if entry.origin == "search" else f", which is {entry.origin}"
    return (
        f"{equation}, {steps} steps: distance {distance:.5f}{won}; {gain:.1f} dB nearer than uniform "
        f"({rules['uniform']:.5f}), {over_best:.1f} dB nearer than the best rule ({best}, {rules[best]:.5f})"
    )


class _Counter:
    """Counts evaluations and tells of the share done."""

    def __init__(self, progress: Callable[[str, float], None]) -> None:
        self.total = 1
        self.doing = "dense runs"
        self._done = 0
        self._progress = progress

    def __call__(self) -> None:
        self._done += 1
        self._progress(self.doing, min(self._done / self.total, 1.0))


def _is_done(bundle: Bundle, key: str, consistency: float) -> bool:
    entry = bundle.manifest.placements.get(key)
    return entry is not None and entry.consistency == consistency


def _samples(upscaler: Upscaler, request: ScheduleRequest) -> list[Sample]:
    model = upscaler.session.model
    if model.generates:
        return [
            Sample(
                subject=model.generation(1, None, None).subject,
                noise=NoiseSource(seed=request.seed, sample=number, images=[NO_PICTURE]),
            )
            for number in range(request.samples)
        ]
    paths: Sequence[Path] = request.images or upscaler.bundle.sample_images()
    if not paths:
        raise BundleError(
            f"{upscaler.bundle.path} holds no sample picture to search with; name low-resolution pictures with --image."
        )
    return [_sample_of(upscaler, path, request) for path in paths[: request.samples]]


def _sample_of(upscaler: Upscaler, path: Path, request: ScheduleRequest) -> Sample:
    pixels = read_image(path).pixels
    top, left = (max(0, (side - LARGEST_LR_SIDE) // 2) for side in pixels.shape[:2])
    pixels = np.ascontiguousarray(pixels[top : top + LARGEST_LR_SIDE, left : left + LARGEST_LR_SIDE])
    size = output_size(Size.of(pixels), scale=request.scale)
    noise = NoiseSource(seed=request.seed, sample=0, images=[image_key(pixels)])
    lr = network_from_pixels(pixels, upscaler.session.model.values)[None]
    return Sample(subject=upscaler.session.model.subject(lr, size, noise.posterior), noise=noise)


def _with_placement(bundle: Bundle, key: str, entry: SearchedPlacement) -> Bundle:
    placements = {**bundle.manifest.placements, key: entry}
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, placements=placements))


def _store_presets(
    upscaler: Upscaler,
    bundle: Bundle,
    request: ScheduleRequest,
    rows: Sequence[Row],
    start: float | None,
    consistency: float,
    judge: Judge | None,
) -> Bundle:
    """The judge's draft, balanced and best; without one those of the fewest, the middle and the most steps."""
    presets, default = dict(bundle.manifest.presets), bundle.manifest.default_preset
    if judge is None:
        counts = sorted({row.steps for row in rows})
        chosen = (counts[0], counts[len(counts) // 2], counts[-1])
        nearest = {steps: _nearest([row for row in rows if row.steps == steps]) for steps in chosen}
        for name, steps in zip(PRESET_NAMES, chosen, strict=True):
            presets[name] = changed(nearest[steps], start=start or None, consistency=consistency or None)
        default = default if default in presets else DEFAULT_PRESET
    else:
        starts = request.starts or (start or 0.0, *STARTS)
        chooser = Chooser(upscaler, judge, consistency=consistency, starts=starts)
        aids = {"start": start or 0.0, "consistency": consistency, "eta": 0.0}
        searched = [changed(_nearest([row]), **aids) for row in rows]
        presets |= chooser.presets(request.equations, request.steps, searched)
        default = DEFAULT_PRESET
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, presets=presets, default_preset=default))


def _nearest(rows: Sequence[Row]) -> Preset:
    """The preset of the row that ends nearest to the run of many steps."""
    row = min(rows, key=lambda row: math.inf if row.entry.distance is None else row.entry.distance)
    preset = Preset(equation=row.equation, steps=row.steps, placement=row.entry.noise_levels)
    return preset if row.entry.distance is None else preset.with_measured("distance", row.entry.distance)
