"""Everything that is known when the page is written: the bundle, and the figures that were given, found or measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.targets import table
from deploy.bundle import Bundle
from deploy.bundle.quantization import Int8Target
from deploy.engine.chosen import DecisionFigures, newest_decision
from deploy.measure.benchmark.bench import bench_bundle
from deploy.measure.benchmark.settings import DISK, PICTURE, STEP, BenchSettings
from deploy.report.gallery import Gallery
from deploy.report.html.values import Record, listed, number, read_record, record, within

CALIBRATION = "calibration.json"
QUANTIZATION = "quantization.json"

TARGETS = {target.name: target.title for target in table.TARGETS.values()}
"""The int8 targets as people know them, in the order of the page."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Figures:
    """A report in JSON's types, and where it comes from as the page says it."""

    data: Record
    origin: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Facts:
    """What the page is made of; what is None is unknown, and the page says so."""

    bundle: Bundle
    bench: Figures | None = None
    evaluation: Figures | None = None
    """Of `idm-deploy evaluate`."""
    quantization: Figures | None = None
    """What quantize measured, `quantization.json`."""
    calibration: Figures | None = None
    """Every scale it chose, `calibration.json`."""
    engine: DecisionFigures | None = None
    """What `build-engine` found on this machine."""
    gallery: Gallery | None = None

    @property
    def targets(self) -> Mapping[str, Int8Target]:
        """What the bundle holds in int8, by target."""
        targets = {} if self.bundle.manifest.quantization is None else self.bundle.manifest.quantization.targets
        order = [*(name for name in TARGETS if name in targets), *sorted(targets.keys() - TARGETS.keys())]
        return {name: targets[name] for name in order}

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise levels that int8 was calibrated at."""
        return () if self.bundle.manifest.quantization is None else self.bundle.manifest.quantization.noise_levels

    @property
    def edges(self) -> tuple[float, ...]:
        """Where the int8 ranges of the first target end; none without int8, or with one range."""
        for target in self.targets.values():
            return target.edges if len(target.edges) > 2 else ()
        return ()


def read_figures(path: Path, what: str) -> Figures:
    """The figures of a file that the user named."""
    return Figures(data=read_record(path, what), origin=path.name)


def quantization_reports(bundle: Bundle) -> tuple[Figures | None, Figures | None]:
    """quantization.json and calibration.json from the report folder beside the bundle, or here; None where there are
    none, or where they tell of another calibration than the one in the bundle.
    """
    name = f"{bundle.path.resolve().name.removesuffix('.bundle')}-report"
    for folder in dict.fromkeys((Path(name), bundle.path.resolve().parent / name)):
        if not (folder / CALIBRATION).is_file():
            continue
        calibration = read_record(folder / CALIBRATION, "what `idm-deploy quantize` wrote")
        if not is_of(bundle, calibration):
            continue
        report = folder / QUANTIZATION
        figures = read_figures(report, "what `idm-deploy quantize` wrote") if report.is_file() else None
        return figures, Figures(data=calibration, origin=CALIBRATION)
    return None, None


def is_of(bundle: Bundle, calibration: Record) -> bool:
    """Whether the scales are those of the bundle's int8 graphs: the ranges of every target, and the noise levels."""
    quantization = bundle.manifest.quantization
    if quantization is None:
        return False
    targets, scales = quantization.targets, record(calibration.get("targets"))
    return (
        bool(targets)
        and targets.keys() == scales.keys()
        and _same(quantization.noise_levels, calibration.get("noise_levels"))
        and all(_same(target.edges, within(scales, name, "edges")) for name, target in targets.items())
        and all(_same_corrections(target, scales[name]) for name, target in targets.items())
    )


def _same_corrections(ours: Int8Target, theirs: Any) -> bool:
    """Fitted numbers: another calibration with the same ranges has others."""
    gains = [within(row, "gain") for row in listed(within(theirs, "noise_corrections"))]
    return len(gains) == len(ours.noise_corrections) and all(
        _same(row.gain, gain) for row, gain in zip(ours.noise_corrections, gains, strict=True)
    )


def _same(ours: Sequence[float], theirs: object) -> bool:
    figures = [number(value) for value in listed(theirs)]
    return len(ours) == len(figures) and all(
        figure is not None and math.isclose(value, figure, rel_tol=1e-9)
        for value, figure in zip(ours, figures, strict=True)
    )


def engine_decision(bundle: Bundle) -> DecisionFigures | None:
    """What `build-engine` found for this bundle on this machine; None if it was not asked."""
    decision = newest_decision(bundle)
    return None if decision is None else decision.figures


ROUNDS = 3
THREADS = 2


def measured_speed(bundle: Bundle, threads: int | None, progress: Callable[[str, float], None]) -> Figures:
    """What `idm-deploy bench` finds of steps, whole pictures and disk, with less patience."""
    settings = BenchSettings(rounds=ROUNDS, threads=threads or THREADS, parts=(STEP, PICTURE, DISK))
    data = bench_bundle(bundle, settings, None, progress)
    return Figures(data=data, origin=f"a quick measurement of {ROUNDS} rounds, made for this page")
