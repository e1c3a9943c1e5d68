"""The times of earlier runs, in the engine cache: what `deploy.picture.pace` begins with, and adds to."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median_low
from typing import Any, TypedDict

from deploy.bundle import Bundle
from deploy.engine.chosen import machine_key, newest_decision
from deploy.engine.graphs import EngineChoice
from deploy.families.table import family_named
from deploy.picture.pace import STEP, Pace, Place, crowding
from engines.cache import Cache, Figures

LABEL = "pace of"
"""How labels of kept times in the engine cache begin."""

RUNS = 3
"""Runs whose times are kept of each size: the middle one counts, so one that was disturbed does not."""

SIZES = 64
"""Places that are kept, those of the latest runs."""


class _Figures(TypedDict):
    """What the engine cache holds of a pace; entries with other figures are damaged."""

    times: list[tuple[str, int, int, list[float]]]


def kept_pace(bundle: Bundle, choice: EngineChoice) -> Pace:
    """The times of this bundle and engine here: of earlier runs, and a step that `build-engine` measured."""
    entry = Cache(choice.cache_dir).find(_key(bundle, choice), _Figures)
    kept = _measured_by_build_engine(bundle, choice)
    kept |= {} if entry is None else {place: median_low(times) for place, times in _places(entry.figures).items()}
    # What keeps a processor busy does not keep a GPU.
    return Pace(kept, (lambda: 1.0) if choice.record.on_gpu else lambda: crowding(choice.threads))


def keep_pace(bundle: Bundle, choice: EngineChoice, pace: Pace) -> None:
    """The times of a run are found by later ones. EngineError where the cache cannot be written."""
    learnt = pace.learnt()
    if not learnt:
        return
    cache, key = Cache(choice.cache_dir), _key(bundle, choice)

    def merged(folder: Path) -> Figures:
        del folder  # figures are all there is to keep
        entry = cache.find(key, _Figures)
        times = {} if entry is None else _places(entry.figures)
        for place, seconds in learnt.items():
            times[place] = [*times.pop(place, []), seconds][-RUNS:]
        latest = list(times.items())[-SIZES:]
        return {"times": [[*place, seconds] for place, seconds in latest]}

    cache.obtain(f"{LABEL} {bundle.path.resolve().name}", key, merged, rebuild=True)


def _key(bundle: Bundle, choice: EngineChoice) -> dict[str, str]:
    return machine_key(bundle, choice.device) | {
        "of": "pace",
        "backend": choice.name,
        "threads": "auto" if choice.threads is None else str(choice.threads),
    }


def _places(figures: Mapping[str, Any]) -> dict[Place, list[float]]:
    return {(kind, state, output): times for kind, state, output, times in figures["times"]}


def _measured_by_build_engine(bundle: Bundle, choice: EngineChoice) -> dict[Place, float]:
    """The step of this engine in the trial of `build-engine`, where that was one picture on as many threads."""
    decision = newest_decision(bundle, choice.cache_dir, choice.device)
    # A trial's size is that of the output, which does not tell a latent's.
    if decision is None or family_named(bundle.manifest.family).decodes:
        return {}
    trial = decision.figures.trial
    if trial is None or trial.batch != 1 or trial.threads != choice.threads:
        return {}
    pixels = trial.size[0] * trial.size[1]
    steps = [one.step_ms / 1e3 for one in decision.figures.candidates if one.step_ms and one.name == choice.name]
    return {(STEP, pixels, pixels): steps[0]} if steps else {}
