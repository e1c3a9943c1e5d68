"""The choice of the engine and precision that run a bundle on this machine, measured by `build-engine` and kept.

`deploy.chosen_engine` reads it again. It depends on the bundle, the engines and their versions, the processor or GPU,
and what was asked for. All of that is its key in the engine cache, so a machine that changed measures again, and says
why.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf, isfinite
from pathlib import Path

import msgspec

from deploy.bundle import Bundle
from deploy.engine.chosen import AUTO, CHOICE_LABEL, Candidate, DecisionFigures, choice_of, machine_key
from deploy.engine.graphs import INT8, EngineChoice
from deploy.engine.trials import FLOAT_REFERENCE, TrialSettings, possible_choices, try_choices
from deploy.errors import DeployError, MissingPackage
from engines.backends import BACKENDS, probe_all
from engines.cache import Cache, Figures
from engines.progress import Progress

LEAST_SQNR_DB = 15.0
"""A step that is less like the float32 one is taken for wrong: docs/measurements.md, likeness of a step."""

AS_FAST = 1.02
"""An engine within this factor of the fastest counts as equally fast; of those, the one nearest to float32 is chosen.

So int8 is chosen only where it is faster, and what is chosen is at most 2 % slower than the fastest measured.
"""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much worse int8 pictures may be than float ones, by what `quantize` measured; None: no such demand.

    psnr_drop: dB of PSNR against the originals. worst_db: least dB between a picture in int8 and in float.
    """

    psnr_drop: float | None = None
    worst_db: float | None = None

    def excess(self, candidate: Candidate) -> str:
        """How a candidate is beyond the budget, as the end of a sentence; "" if it is within, or nothing was measured.

        Half of the last digit that is shown is given away, so that 0.050 is within 0.05.
        """
        lost, like = candidate.psnr_drop, candidate.worst_db
        if self.psnr_drop is not None and lost is not None and lost > self.psnr_drop + 5e-4:
            return f"loses {lost:.3f} dB against originals, more than {self.psnr_drop:g} (--max-psnr-drop)"
        if self.worst_db is not None and like is not None and like < self.worst_db - 5e-2:
            return f"makes a picture {like:.1f} dB from float, below the {self.worst_db:g} that quantize was given"
        return ""


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What `build-engine` was asked for; `trial` is the step that is measured."""

    engine: str = AUTO
    precision: str = AUTO
    least_sqnr_db: float = LEAST_SQNR_DB
    max_psnr_drop: float | None = None
    """None: what `quantize` was given."""
    trial: TrialSettings = field(default_factory=TrialSettings)
    rebuild: bool = False
    device: int | None = None
    """The number of a GPU, to choose among the engines that run on GPUs."""
    around: str = AUTO
    """The precision around int8 layers."""

    def __post_init__(self) -> None:
        limits = {"least SQNR": self.least_sqnr_db, "largest PSNR drop": self.max_psnr_drop}
        if wrong := [f"{name} {value}" for name, value in limits.items() if value is not None and not isfinite(value)]:
            raise DeployError(f"An engine cannot be chosen by {', '.join(wrong)}: give a number of decibels.")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The engine that was chosen, and why; `reason` is why it was measured just now, "" if it was known."""

    choice: EngineChoice
    why: str
    candidates: tuple[Candidate, ...]
    reason: str


def decide(bundle: Bundle, cache: Cache, options: BuildOptions, progress: Progress) -> Decision:
    """The fastest engine and precision for this bundle here whose step is right; measured, or from the cache."""
    choices = possible_choices(
        bundle, options.engine, options.precision, options.trial.threads, cache.root, options.device, options.around
    )
    if options.around != AUTO and not any(_is_so_surrounded(choice, options.around) for choice in choices):
        raise _nothing_so_surrounded(options)
    if not any(_was_asked_for(choice, options) for choice in choices):
        raise _nothing_to_choose(options)

    def build(folder: Path) -> Figures:
        del folder  # figures are all there is to keep
        candidates = try_choices(bundle, choices, options.trial, progress)
        best, why = choose(candidates, options, budget_of(bundle, options))
        figures = {"candidates": candidates, "chosen": best, "why": why, "trial": asdict(options.trial)}
        return dict(msgspec.to_builtins(figures))

    entry, reason = cache.obtain(
        f"{CHOICE_LABEL} {bundle.path.resolve().name}",
        _choice_key(bundle, options),
        build,
        rebuild=options.rebuild,
        kind=DecisionFigures,
    )
    figures = msgspec.convert(entry.figures, DecisionFigures)
    choice = choice_of(figures.chosen, options.trial.threads, cache.root, options.device)
    return Decision(choice=choice, why=figures.why, candidates=figures.candidates, reason=reason)


def budget_of(bundle: Bundle, options: BuildOptions) -> Budget:
    """The budget that is held now: what was asked for, else what `quantize` was given.

    None at all where int8 is asked for by name: then it has been decided already.
    """
    if options.precision == INT8 and options.max_psnr_drop is None:
        return Budget()
    quantization = bundle.manifest.quantization
    if quantization is None:
        return Budget(psnr_drop=options.max_psnr_drop)
    allowed = quantization.max_psnr_drop if options.max_psnr_drop is None else options.max_psnr_drop
    return Budget(psnr_drop=allowed, worst_db=quantization.min_fidelity)


def choose(
    candidates: Sequence[Candidate], options: BuildOptions, budget: Budget | None = None
) -> tuple[Candidate, str]:
    """The fastest candidate that is right and within the budget, and one sentence of why."""
    eligible = [c for c in candidates if _was_asked_for(c, options)]
    problems = {c: problem for c in eligible if (problem := _problem(c, options, budget or Budget()))}
    right = [c for c in eligible if c not in problems]
    if not right:
        reasons = "; ".join(f"{c.name}: {problem}" for c, problem in problems.items())
        raise DeployError(
            f"No engine here runs this bundle as it should: {reasons}. `idm-deploy doctor` shows the engines."
        )
    fastest = min(right, key=lambda c: c.pace)
    as_fast = [c for c in right if c.pace <= AS_FAST * fastest.pace]
    best = max(as_fast, key=lambda c: (inf if c.sqnr_db is None else c.sqnr_db, -c.pace))
    why = f"{best.name} takes {best.step_ms:.1f} ms per step"
    reference = next(
        (c for c in candidates if c.precision == FLOAT_REFERENCE and c.sqnr_db is None and c.step_ms), None
    )
    if reference is not None and best != reference:
        why += f", {reference.pace / best.pace:.2f} times as fast as {reference.name}"
        if best.sqnr_db is not None:
            why += f", {best.sqnr_db:.1f} dB from it"
    if best != fastest:
        why += f"; {fastest.name} is as fast ({fastest.step_ms:.1f} ms) but further from float32"
    reasons = "; ".join(f"{c.name} {problem}" for c, problem in problems.items())
    return best, why + (f" (not used: {reasons})" if reasons else "")


def _problem(candidate: Candidate, options: BuildOptions, budget: Budget) -> str:
    """Why a candidate cannot be chosen, as the end of a sentence; "" if it can."""
    if candidate.failure is not None:
        return candidate.failure
    if candidate.sqnr_db is not None and candidate.sqnr_db < options.least_sqnr_db:
        return f"is {candidate.sqnr_db:.1f} dB from float32, below {options.least_sqnr_db:g}"
    return budget.excess(candidate)


def _was_asked_for(choice: EngineChoice | Candidate, options: BuildOptions) -> bool:
    suits = options.device is None or BACKENDS[choice.backend].on_gpu
    return suits and options.engine in (AUTO, choice.backend) and options.precision in (AUTO, choice.precision)


def _is_so_surrounded(choice: EngineChoice, around: str) -> bool:
    return choice.precision == INT8 and choice.precision_of_engines == around


def _nothing_so_surrounded(options: BuildOptions) -> DeployError:
    return DeployError(
        f"There is nothing to choose from with {options.around} around int8: either this bundle has no int8 graphs for "
        "an engine here, or none of these engines has that. Leave `around` out, or `idm-deploy quantize` the bundle."
    )


def _nothing_to_choose(options: BuildOptions) -> DeployError:
    probes = [probe for probe in probe_all() if options.engine in (AUTO, probe.name)]
    if options.device is not None:
        probes = [probe for probe in probes if BACKENDS[probe.name].on_gpu]
    absent = [f"{probe.name}: {probe.reason}; {probe.install}" for probe in probes if not probe.available]
    if len(absent) == len(probes):
        return MissingPackage(f"No engine can run here: {' | '.join(absent)}.")
    request = f"{options.engine} in {options.precision}".replace(f"{AUTO} in ", "")
    if options.precision == INT8:
        return DeployError(
            f"There is nothing to choose from for {request}: this bundle has no int8 graphs for it. "
            "Make them with `idm-deploy quantize`."
        )
    backends = [BACKENDS[probe.name] for probe in probes if probe.available]
    lacking = [f" ({reason})" for backend in backends if (reason := backend.lacks().get(options.precision))]
    return DeployError(
        f"There is nothing to choose from for {request}{''.join(lacking[:1])}. `idm-deploy doctor` shows the precisions"
        " here."
    )


def _choice_key(bundle: Bundle, options: BuildOptions) -> dict[str, str]:
    trial = options.trial
    return machine_key(bundle, options.device) | {
        "asked": f"{options.engine} {options.precision}"
        + ("" if options.around == AUTO else f", {options.around} around int8"),
        "size": str(trial.size),
        "batch": str(trial.batch),
        "threads": "auto" if trial.threads is None else str(trial.threads),
        "least SQNR": f"{options.least_sqnr_db:g} dB",
        "budget": _text_of_budget(budget_of(bundle, options)),
        "int8 lost": _text_of_losses(bundle),
    }


def _text_of_budget(budget: Budget) -> str:
    demands = [] if budget.psnr_drop is None else [f"PSNR drop {budget.psnr_drop:g} dB"]
    demands += [] if budget.worst_db is None else [f"fidelity {budget.worst_db:g} dB"]
    return ", ".join(demands) or "none"


def _text_of_losses(bundle: Bundle) -> str:
    """What int8 lost on held-out pictures, as `quantize` measured it: it lies in no file whose hash is in the key."""
    targets = {} if bundle.manifest.quantization is None else bundle.manifest.quantization.targets
    figures = {name: target.held_out for name, target in sorted(targets.items()) if target.held_out is not None}
    losses = [f"{name} {held_out.psnr_drop} and {held_out.fidelity_db} dB" for name, held_out in figures.items()]
    return ", ".join(losses) or "not known"
