"""All parts of `idm-deploy bench` in one report of JSON's types."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from deploy.bundle import Bundle
from deploy.engine.choice import engine_choice
from deploy.engine.turns import Timing, measure, ratios, timing_of
from deploy.families.bundles import recorded_config
from deploy.images.sizes import Size
from deploy.measure.benchmark.pictures import PictureRow, SweepRow, fastest, lr_size_of, speed_ups, sweep, time_pictures
from deploy.measure.benchmark.roofline import RooflineRow, refusal_of_roofline, time_products
from deploy.measure.benchmark.settings import (
    BATCHES,
    DISK,
    PARTS,
    PICTURE,
    ROOFLINE,
    SIZES,
    START_UP,
    STEP,
    BenchSettings,
)
from deploy.measure.benchmark.start_up import STARTS, StartUp, start_up_of, started
from deploy.measure.benchmark.steps import Baseline, baseline_of, runnable_choices, step_contenders
from engines.backends import probe_all
from engines.cache import Cache
from engines.machine.host import find_cpu
from engines.packages import installed_version
from engines.progress import Progress, part_of

SCHEMA = 2
"""Of the report. 1 had the timings of the step alone."""

Report = dict[str, Any]


def bench_bundle(bundle: Bundle, settings: BenchSettings, network: Any | None, progress: Progress) -> Report:
    """All that was asked for, measured; the published network first if torch is there: `network`, or random weights."""
    parts = [part for part in PARTS if part in settings.parts]
    compared = {STEP, PICTURE} & set(parts)
    baseline = baseline_of(bundle, settings, network) if compared else None
    bench = _Bench(bundle, settings, baseline, _head(bundle, settings))
    for number, part in enumerate(parts):
        bench.measure(part, part_of(progress, number, len(parts), part))
    return bench.report


def failures_of(report: Report) -> list[str]:
    """Name and reason of every row that has no figures."""
    rows = [row for kind in report["timings"].values() for row in kind]
    for part in ("pictures", "batches", "sizes", "start_up", "roofline"):
        rows += report.get(part, {}).get("rows", [])
    return [f"{row['name']}: {row['failure']}" for row in rows if row.get("failure")]


class _Bench:
    """The report in the making: what one part found, another needs."""

    def __init__(self, bundle: Bundle, settings: BenchSettings, baseline: Baseline | None, head: Report) -> None:
        self._bundle, self._settings, self._baseline = bundle, settings, baseline
        self._steps: list[Timing] = []
        self._pictures: list[PictureRow] = []
        self.report = head

    def measure(self, part: str, progress: Progress) -> None:
        """Adds one part to the report."""
        work: Mapping[str, Callable[[Progress], None]] = {
            STEP: self._time_steps,
            PICTURE: self._time_pictures,
            BATCHES: self._time_batches,
            SIZES: self._time_sizes,
            START_UP: self._time_starts,
            ROOFLINE: self._time_products,
            DISK: self._weigh,
        }
        work[part](progress)

    def _time_steps(self, progress: Progress) -> None:
        with ExitStack() as stack:
            groups = step_contenders(self._bundle, self._settings, self._baseline, stack)
            for number, contenders in enumerate(groups.values()):
                measure(contenders, self._settings.rounds, perf_counter, part_of(progress, number, len(groups)))
        timings = {kind: [timing_of(contender) for contender in group] for kind, group in groups.items()}
        self._steps = timings[STEP]
        self.report["timings"] = {kind: step_rows(group) for kind, group in timings.items()}

    def _time_pictures(self, progress: Progress) -> None:
        self._pictures = time_pictures(self._bundle, self._settings, self._baseline, progress)
        self.report["pictures"] = {"rows": picture_rows(self._pictures)}

    def _time_batches(self, progress: Progress) -> None:
        cases = [(count, self._settings.size) for count in self._settings.batches]
        self._sweep("batches", cases, progress)

    def _time_sizes(self, progress: Progress) -> None:
        self._sweep("sizes", [(1, Size.square(side)) for side in self._settings.sides], progress)

    def _sweep(self, name: str, cases: Sequence[tuple[int, Size]], progress: Progress) -> None:
        """A sweep on the engine that `infer` would take, or on the fastest or first of those that were asked for."""
        settings = self._settings
        choice = fastest(self._pictures) if self._pictures else None
        if not (settings.engines or settings.precisions):
            as_infer = engine_choice(self._bundle, threads=settings.threads, device=settings.device)
            choice = as_infer, settings.choices[0] if choice is None else choice[1]
        elif not self._pictures:
            choice = runnable_choices(self._bundle, settings)[0], settings.choices[0]
        if choice is None:
            self.report[name] = {"rows": [], "note": "no engine made a picture"}
            return
        # How cost grows with the size is the network's: in stages, a filter would make most of what is far larger.
        way = choice[1] if choice[1].stages is not None else replace(choice[1], stages="once")
        rows = sweep(self._bundle, self._settings, (choice[0], way), cases, progress)
        self.report[name] = {"engine": choice[0].name, "rows": sweep_rows(rows)}

    def _time_starts(self, progress: Progress) -> None:
        choices = runnable_choices(self._bundle, self._settings)
        starts_of: dict[str, list[Mapping[str, Any]]] = {choice.name: [] for choice in choices}
        for turn in range(STARTS):
            for number, choice in enumerate(choices):
                progress(choice.name, (turn * len(choices) + number) / (STARTS * len(choices)))
                starts_of[choice.name].append(started(self._bundle.path, choice, self._settings.size))
        self.report["start_up"] = {"rows": [_plain(start_up_of(name, starts)) for name, starts in starts_of.items()]}

    def _time_products(self, progress: Progress) -> None:
        refusal = refusal_of_roofline()
        if refusal is not None:
            self.report["roofline"] = {"rows": [], "note": refusal}
            return
        rows = time_products(self._bundle, self._settings, self._steps, progress)
        self.report["roofline"] = {"rows": [_plain(row, fraction=row.fraction) for row in rows]}

    def _weigh(self, progress: Progress) -> None:
        progress("files", 0.0)
        self.report["disk"] = disk_bytes(self._bundle)


def _head(bundle: Bundle, settings: BenchSettings) -> Report:
    """What was asked for, and on what machine and with which versions."""
    config = recorded_config(bundle.manifest)
    versions = {probe.name: probe.version for probe in probe_all() if probe.available}
    if find_spec("torch") is not None:
        versions["torch"] = installed_version("torch")
    return {
        "schema": SCHEMA,
        "bundle": str(bundle.path),
        "family": bundle.manifest.family,
        "lr_size": "noise" if getattr(config, "kind", "") == "generation" else str(lr_size_of(bundle, settings)),
        "size": str(settings.size),
        "batch": settings.batch,
        "threads": settings.threads,
        "rounds": settings.rounds,
        "cpu": find_cpu().model,
        "versions": versions,
        "timings": {},
    }


def step_rows(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    """The times of the step, a row per contender, with how many times faster than the first it is."""
    faster = ratios(timings)
    return [_times(timing) | ({"ratio": faster[timing.name]} if timing.times_ms else {}) for timing in timings]


def picture_rows(rows: Sequence[PictureRow]) -> list[dict[str, Any]]:
    """One row per way to make a picture, with how many times faster than each published sampler it is."""
    return [
        _times(row.timing)
        | {"sampling": row.sampling, "evaluations": row.evaluations, "extrapolated_from_steps": row.timed_steps}
        | ({"times_faster": faster} if faster else {})
        for row, faster in zip(rows, speed_ups(rows), strict=True)
    ]


def sweep_rows(rows: Sequence[SweepRow]) -> list[dict[str, Any]]:
    """The times of a sweep, a row per number of pictures or size."""
    return [
        _times(row.timing)
        | {"pictures": row.count, "at_once": row.at_once, "size": str(row.size), "tiles": row.tiles}
        | (
            {"pictures_per_second": row.pictures_per_second, "us_per_pixel": row.us_per_pixel}
            if row.timing.times_ms
            else {}
        )
        for row in rows
    ]


def _plain(row: StartUp | RooflineRow, **more: float | None) -> dict[str, Any]:
    """The figures of a row, or why it has none."""
    return {"name": row.name, "failure": row.failure} if row.failure else asdict(row) | more


def _times(timing: Timing) -> dict[str, Any]:
    if timing.failure is not None:
        return {"name": timing.name, "failure": timing.failure}
    record = {"name": timing.name, "failure": None, "times_ms": list(timing.times_ms), "median_ms": timing.median_ms}
    return record | ({"parts_ms": timing.part_medians_ms} if timing.parts_ms else {})


WHOLE, MANIFEST = "bundle", "bundle.json"


def disk_bytes(bundle: Bundle, cache: Cache | None = None) -> dict[str, int]:
    """What -> bytes: the whole bundle, its float part, what int8 adds per target, and built engines in the cache.

    Targets share their int8 weights, so the parts do not add up to the whole.
    """
    manifest = bundle.manifest
    files = {name: record.bytes for name, record in manifest.files.items()}
    sizes = {WHOLE: sum(files.values()) + (bundle.path / MANIFEST).stat().st_size}
    in_float = {name for graph in manifest.graphs.values() for name in graph.files}
    sizes["float graphs and weights"] = sum(files[name] for name in in_float)
    for target, described in () if manifest.quantization is None else manifest.quantization.targets.items():
        added = set(described.files) - in_float
        sizes[f"besides, int8 for {target}"] = sum(files[name] for name in added)
    sizes["sample pictures"] = sum(files[name] for name in set(manifest.samples))
    return sizes | {f"engine, {label}": size for label, size in _built(bundle, cache or Cache())}


def _built(bundle: Bundle, cache: Cache) -> Iterator[tuple[str, int]]:
    """Label and bytes of every built engine whose label names this bundle; decisions, which have no files, are out."""
    name = bundle.path.resolve().name
    try:
        entries = cache.entries()
    except OSError:  # that of a service without a home
        return
    for entry in entries:
        if entry.bytes and entry.label.startswith(f"{name} "):
            yield entry.label, entry.bytes
