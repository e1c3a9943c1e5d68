"""The quick measurement of `report --measure`: steps and whole pictures, in a few rounds."""

from collections.abc import Callable

from deploy.bundle import Bundle
from deploy.measure.benchmark.bench import bench_bundle
from deploy.measure.benchmark.settings import DISK, PICTURE, STEP, BenchSettings
from deploy.report.facts import Figures

ROUNDS = 3
THREADS = 2


def measured_speed(bundle: Bundle, threads: int | None, progress: Callable[[str, float], None]) -> Figures:
    """What `idm-deploy bench` finds of steps, whole pictures and disk, with less patience."""
    settings = BenchSettings(rounds=ROUNDS, threads=threads or THREADS, parts=(STEP, PICTURE, DISK))
    data = bench_bundle(bundle, settings, None, progress)
    return Figures(data=data, origin=f"a quick measurement of {ROUNDS} rounds, made for this page")
