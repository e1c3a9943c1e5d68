"""Which engine and precision run a bundle here: measured by `build-engine`, kept; deploy.chosen_engine finds it again.

The decision depends on the bundle, the engines and their versions, the processor or GPU, and what was asked for. All of
that is its key in the engine cache, so a machine that changed measures again, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.bundle import Bundle
from deploy.chosen_engine import AUTO, CHOICE_LABEL, machine_key
from deploy.engine_trials import Candidate, TrialSettings, possible_choices, try_choices
from deploy.errors import DeployError, MissingPackage
from deploy.runtime.graphs import INT8, EngineChoice
from engines.backends import probe_all
from engines.cache import Cache, Figures

Progress = Callable[[str, float], None]

LEAST_SQNR_DB = 15.0
"""A step below this is taken for wrong. Seen on the full IDM: bf16 40 dB, int8 24 to 26 dB, and 3 dB where a backend
misread the int8 graph. What int8 costs in pictures is decided when a bundle is quantized, not here."""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What was asked for; `trial` is the step that is measured."""

    engine: str = AUTO
    precision: str = AUTO
    least_sqnr_db: float = LEAST_SQNR_DB
    trial: TrialSettings = field(default_factory=TrialSettings)
    rebuild: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was chosen and why; `reason` is why it was measured just now, "" if it was known."""

    choice: EngineChoice
    why: str
    candidates: tuple[Candidate, ...]
    reason: str


def decide(bundle: Bundle, cache: Cache, options: BuildOptions, progress: Progress) -> Decision:
    """The fastest engine and precision for this bundle here whose step is right; measured, or from the cache."""
    choices = possible_choices(bundle, options.engine, options.precision, options.trial.threads, cache.root)
    if not any(_was_asked_for(choice, options) for choice in choices):
        raise _nothing_to_choose(options)

    def build(folder: Path) -> Figures:
        del folder  # figures are all there is to keep
        candidates = try_choices(bundle, choices, options.trial, progress)
        chosen, why = choose(candidates, options)
        trial = asdict(options.trial)
        return {"candidates": [asdict(c) for c in candidates], "chosen": asdict(chosen), "why": why, "trial": trial}

    entry, reason = cache.obtain(
        f"{CHOICE_LABEL} {bundle.path.resolve().name}", _choice_key(bundle, options), build, rebuild=options.rebuild
    )
    return _decision(entry.figures, reason, options.trial.threads, cache)


def choose(candidates: Sequence[Candidate], options: BuildOptions) -> tuple[Candidate, str]:
    """The fastest candidate that is right, and one sentence of why."""
    for candidate in candidates:
        if candidate.failure is None and candidate.sqnr_db is None and candidate.precision == "fp32":
            reference: Candidate | None = candidate
            break
    else:
        reference = None
    asked = [c for c in candidates if _was_asked_for(c, options)]
    right = [c for c in asked if c.step_ms is not None and (c.sqnr_db is None or c.sqnr_db >= options.least_sqnr_db)]
    if not right:
        told = "; ".join(f"{c.name}: {_verdict(c, options)}" for c in asked)
        raise DeployError(
            f"No engine here runs this bundle as it should: {told}. `idm-deploy doctor` shows the engines."
        )
    best = min(right, key=lambda c: c.step_ms or 0.0)
    why = f"{best.name} takes {best.step_ms:.1f} ms per step"
    if reference is not None and best != reference and reference.step_ms and best.step_ms:
        why += f", {reference.step_ms / best.step_ms:.2f} times as fast as {reference.name}"
        if best.sqnr_db is not None:
            why += f", {best.sqnr_db:.1f} dB from it"
    passed_over = [f"{c.name} {_verdict(c, options)}" for c in asked if c not in right]
    return best, why + (f" (not used: {'; '.join(passed_over)})" if passed_over else "")


def _verdict(candidate: Candidate, options: BuildOptions) -> str:
    if candidate.failure is not None:
        return candidate.failure
    return f"is {candidate.sqnr_db:.1f} dB from float32, below {options.least_sqnr_db:g}"


def _was_asked_for(choice: EngineChoice | Candidate, options: BuildOptions) -> bool:
    return options.engine in (AUTO, choice.backend) and options.precision in (AUTO, choice.precision)


def _nothing_to_choose(options: BuildOptions) -> DeployError:
    found = [probe for probe in probe_all() if options.engine in (AUTO, probe.name)]
    absent = [f"{probe.name}: {probe.reason}; {probe.install}" for probe in found if not probe.available]
    if len(absent) == len(found):
        return MissingPackage(f"No engine can run here: {' | '.join(absent)}.")
    asked = f"{options.engine} in {options.precision}".replace(f"{AUTO} in ", "")
    if options.precision == INT8:
        return DeployError(
            f"There is nothing to choose from for {asked}: this bundle has no int8 graphs for it. "
            "Make them with `idm-deploy quantize`."
        )
    return DeployError(f"There is nothing to choose from for {asked}. `idm-deploy doctor` shows the precisions here.")


def _decision(figures: Figures, reason: str, threads: int | None, cache: Cache) -> Decision:
    candidates = tuple(Candidate(**stored) for stored in figures["candidates"])
    chosen = Candidate(**figures["chosen"])
    choice = EngineChoice(backend=chosen.backend, precision=chosen.precision, threads=threads, cache_dir=cache.root)
    return Decision(choice=choice, why=figures["why"], candidates=candidates, reason=reason)


def _choice_key(bundle: Bundle, options: BuildOptions) -> dict[str, str]:
    trial = options.trial
    return machine_key(bundle) | {
        "asked": f"{options.engine} {options.precision}",
        "size": f"{trial.size[1]}x{trial.size[0]}",
        "batch": str(trial.batch),
        "threads": "auto" if trial.threads is None else str(trial.threads),
        "least SQNR": f"{options.least_sqnr_db:g} dB",
    }
