"""What `idm-deploy quantize` does: export if needed, calibrate, measure, report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deploy.bundle import Bundle
from deploy.bundle.discovery import holds_manifest
from deploy.export.samples import Sample, default_samples, read_samples, with_samples
from deploy.int8.pipeline import quantize_bundle, refuse_unfit
from deploy.int8.recording.partial_results import alone_with
from deploy.int8.settings import Places, QuantizeSettings
from deploy.int8.storing.only_int8 import without_float_denoiser
from deploy.int8.telling.report import refuse_unwritable, write_report
from deploy.int8.telling.results import (
    Results,
    beyond_budget,
    measure,
    report_from_results,
    unmeasured,
    with_held_out_figures,
)
from engines.progress import Progress, Say

CALIBRATING = 0.7
"""Share of the time until everything is written; the rest is measured on held-out pictures."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint or a bundle, and how a checkpoint is read."""

    path: Path
    output: Path | None = None
    config: Path | None = None
    weights: Literal["raw", "ema"] = "raw"
    samples: tuple[Path, ...] = ()
    """Pictures to put into the bundle; empty: those that it has, or packaged ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came out. `report` is ready for JSON."""

    bundle: Path
    results: Results
    folder: Path
    report: dict[str, Any]


def quantize(
    source: Source,
    settings: QuantizeSettings,
    places: Places,
    *,
    only_int8: bool = False,
    force: bool = False,
    say: Say,
    progress: Progress,
) -> Outcome:
    """The bundle, quantized in place, with a report beside it; of two at the same bundle the second waits."""
    samples = read_samples(source.samples)
    bundle = bundle_of(source, force=force, say=say, progress=progress)
    refuse_unwritable(places.report or default_report(bundle.path))
    with alone_with(bundle, places.cache, say):
        here = Bundle.open(bundle.path, verify="sizes")  # another may have changed it while this one waited
        return _quantized(
            here, settings, places, samples=samples, only_int8=only_int8, force=force, say=say, progress=progress
        )


def _quantized(
    bundle: Bundle,
    settings: QuantizeSettings,
    places: Places,
    *,
    samples: list[Sample],
    only_int8: bool,
    force: bool,
    say: Say,
    progress: Progress,
) -> Outcome:
    """The bundle, quantized and measured, while no other quantizes it."""
    folder = places.report or default_report(bundle.path)
    if unmeasured(bundle) and "denoise" in bundle.manifest.graphs:
        say(f"{bundle.path} was quantized, but not measured: it is quantized again")
        force = True
    only = bundle.manifest.only_scale
    if only is not None and settings.scales == QuantizeSettings().scales:
        settings = replace(settings, scales=(only,))
        say(f"calibrating at {only:g} times, the one magnification of the training; --scale names others")
    targets = () if bundle.manifest.quantization is None else bundle.manifest.quantization.targets
    if force and (dropped := [target for target in targets if target not in settings.targets]):
        say(f"the graphs for {' and '.join(dropped)} go, since --targets does not name them")

    def calibrating(doing: str, fraction: float) -> None:
        progress(doing, CALIBRATING * fraction)

    def measuring(doing: str, fraction: float) -> None:
        progress(doing, CALIBRATING + (1 - CALIBRATING) * fraction)

    calibrated = quantize_bundle(bundle, settings, places, force=force, say=say, progress=calibrating)
    results = measure(calibrated, threads=places.threads, seed=settings.seed, progress=measuring)
    quantized = calibrated.bundle
    if samples or not quantized.manifest.samples:  # a bundle of an earlier version may have none
        quantized = with_samples(quantized, samples or default_samples(quantized.manifest.scale_range.trained))
    measured = with_held_out_figures(quantized, results)
    for line in filter(None, (beyond_budget(row, settings) for row in results.rows)):
        say(line)
    write_report(calibrated, results, folder, say)
    if only_int8:
        without_float_denoiser(measured)
    report = {"bundle": str(bundle.path), "report": str(folder), "only_int8": only_int8} | report_from_results(results)
    return Outcome(bundle=bundle.path, results=results, folder=folder, report=report)


def default_report(bundle: Path) -> Path:
    """./<stem>-report for <stem>.bundle."""
    return Path(f"{bundle.resolve().name.removesuffix('.bundle')}-report")


def bundle_of(source: Source, *, force: bool, say: Say, progress: Progress) -> Bundle:
    """The bundle that is named, or the one of the checkpoint that is named, exported now unless it is there."""
    if holds_manifest(source.path):
        return Bundle.open(source.path)
    from deploy.checkpoint.load import load_checkpoint
    from deploy.export.export import default_path, export_bundle

    place = source.output or default_path(source.path)
    checkpoint = load_checkpoint(source.path, config=source.config, weights=source.weights)
    for remark in checkpoint.remarks:
        say(remark)
    if holds_manifest(place):
        bundle = Bundle.open(place)
        if bundle.manifest.source.sha256 == checkpoint.sha256 and "denoise" in bundle.manifest.graphs:
            refuse_unfit(bundle, force=force or unmeasured(bundle))
            say(f"{place} was exported from this checkpoint already: quantizing it in place")
            return bundle
    say(f"exporting {source.path} to {place}")
    return export_bundle(
        checkpoint, place, samples=source.samples, force=force, progress=lambda doing, _: progress(doing, 0.0)
    )
