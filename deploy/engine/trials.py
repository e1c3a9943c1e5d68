"""Candidates for running a bundle's steps on this machine, timed in turns and held against float32."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from deploy.bundle import Bundle
from deploy.engine.choice import choices_here
from deploy.engine.chosen import Candidate
from deploy.engine.graphs import DENOISE, INT8, EngineChoice, GraphSet
from deploy.engine.int8 import target_of_backend
from deploy.engine.turns import Contender, measure
from deploy.errors import DeployError
from deploy.families.bundles import recorded_config
from deploy.families.cases import BEFORE_STEP, NOISE_LEVEL, TIMESTEP, chain
from deploy.families.contract import NOTHING_STAYS, Keep
from deploy.families.table import family_named
from deploy.images.sizes import Size
from deploy.sampling.plan import PlanRow
from deploy.sampling.schedule import NoiseSchedule
from engines.arrays import Array
from engines.backends import check_device
from engines.errors import EngineError
from engines.progress import Progress

FLOAT_REFERENCE = "fp32"

FED_BY_ROWS = ("noise_row", "time_row", "noise_level", "timestep")
"""What a float graph may be fed that differs from step to step, besides the state."""

CLOSE_RACE = 1.15
"""Contenders within this factor of the fastest are timed for as many rounds again, twice: the others are out."""


@dataclass(frozen=True, kw_only=True)
class TrialSettings:
    """The step that is tried: output (height, width), batch, threads, and rounds in which all take their turn."""

    size: Size = Size(128, 128)
    batch: int = 1
    threads: int | None = None
    rounds: int = 5

    def __post_init__(self) -> None:
        numbers = {"height": self.size[0], "width": self.size[1], "batch": self.batch, "rounds": self.rounds}
        numbers |= {} if self.threads is None else {"threads": self.threads}
        if wrong := [f"{name} {value}" for name, value in numbers.items() if value < 1]:
            raise DeployError(f"Engines cannot be tried with {', '.join(wrong)}: each must be at least 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answer:
    """What a contender's first step gave, and how many arrays it copied into another order."""

    noise: Array
    reorders: int | None


def possible_choices(
    bundle: Bundle,
    engine: str,
    precision: str,
    threads: int | None,
    cache_dir: Path | None = None,
    device: int | None = None,
    around: str = "auto",
) -> list[EngineChoice]:
    """Every backend and precision that this machine can run, narrowed by what was asked for ("auto": all of them).

    The first float32 one is always among them: the others are held against it. device: the GPU for those that run on
    one, which alone are asked for then.
    """
    check_device(device, None if engine == "auto" else engine)
    choices = choices_here(bundle, threads, cache_dir, device)
    reference = next((choice for choice in choices if choice.precision == FLOAT_REFERENCE), None)
    return [
        choice
        for choice in choices
        if choice == reference
        or (
            engine in ("auto", choice.backend)
            and precision in ("auto", choice.precision)
            and (around == "auto" or choice.precision != INT8 or around == choice.precision_of_engines)
            and (device is None or choice.device is not None)
        )
    ]


def try_choices(
    bundle: Bundle, choices: Sequence[EngineChoice], settings: TrialSettings, progress: Progress
) -> list[Candidate]:
    """The measured candidates, one per choice in order, and the fastest in its other ways to normalise after them.

    The first float32 one that runs is the others' reference.
    """
    answers: dict[EngineChoice, _Answer] = {}
    with ExitStack() as stack:

        def contender(choice: EngineChoice) -> Contender:
            return _contender(stack.enter_context(GraphSet(bundle, choice)), stack, settings, answers)

        contenders = {choice: contender(choice) for choice in choices}
        race(list(contenders.values()), settings.rounds, time.perf_counter, progress)
        timed = [choice for choice in choices if contenders[choice].times_ms and len(choice.record.normalisations) > 1]
        for leader in sorted(timed, key=lambda choice: median(contenders[choice].times_ms))[:1]:
            for normalisation in leader.record.normalisations[1:]:
                other = replace(leader, normalisation=normalisation)
                contenders[other] = contender(other)
                _time_beside(contenders[leader], contenders[other], settings.rounds, progress)
    reference = next((c for c in choices if c.precision == FLOAT_REFERENCE and c in answers), None)
    candidates = [_candidate(choice, contenders[choice], answers, reference) for choice in contenders]
    return [_with_held_out_figures(candidate, bundle) for candidate in candidates]


def _time_beside(leader: Contender, other: Contender, rounds: int, progress: Progress) -> None:
    """The other's times, in turns with the leader's, as they would have been in the race that the leader has won."""
    raced = median(leader.times_ms)
    counted = len(leader.times_ms)
    measure([leader, other], 2 * rounds, time.perf_counter, progress)
    if other.failure is None and leader.failure is None:
        drift = raced / median(leader.times_ms[counted:])
        del leader.times_ms[counted:]
        other.times_ms = [drift * ms for ms in other.times_ms]


def race(contenders: Sequence[Contender], rounds: int, clock: Callable[[], float], progress: Progress) -> None:
    """All contenders are timed in turns, and those near the fastest three times as often.

    The medians of a few rounds tell contenders apart that differ by a tenth; for less it takes more rounds.
    """
    measure(contenders, rounds, clock, progress)
    timed = [contender for contender in contenders if contender.times_ms]
    best = min((median(contender.times_ms) for contender in timed), default=0.0)
    leaders = [contender for contender in timed if median(contender.times_ms) <= CLOSE_RACE * best]
    if len(leaders) > 1:
        measure(leaders, 2 * rounds, clock, progress)


def _with_held_out_figures(candidate: Candidate, bundle: Bundle) -> Candidate:
    """The candidate with what `quantize` recorded of the int8 graphs that it runs."""
    if candidate.precision != INT8 or bundle.manifest.quantization is None:
        return candidate
    recorded = bundle.manifest.quantization.targets[target_of_backend(candidate.backend)].held_out
    if recorded is None:
        return candidate
    return msgspec.structs.replace(
        candidate, psnr_drop=recorded.psnr_drop, fidelity_db=recorded.fidelity_db, worst_db=recorded.worst_db
    )


def _candidate(
    choice: EngineChoice, contender: Contender, answers: Mapping[EngineChoice, _Answer], reference: EngineChoice | None
) -> Candidate:
    candidate = Candidate(
        backend=choice.backend, precision=choice.precision, around=choice.around, normalisation=choice.normalisation
    )
    if contender.failure is not None or choice not in answers:
        return msgspec.structs.replace(candidate, failure=contender.failure or "not run")
    answer = answers[choice]
    distance = None
    if reference is not None and choice != reference:
        distance = sqnr_db(answers[reference].noise, answer.noise)
    return msgspec.structs.replace(
        candidate, step_ms=median(contender.times_ms), sqnr_db=distance, reorders=answer.reorders
    )


def _contender(
    graphs: GraphSet, stack: ExitStack, settings: TrialSettings, answers: dict[EngineChoice, _Answer]
) -> Contender:
    """A contender whose first turn, which is not counted, opens the graphs, prepares the feeds and keeps the answer.

    It runs as many steps do: with what stays from step to step kept, in the form that many steps are run in.
    """
    keep = Keep(condition=True, size=choice_is_fixed(graphs.choice), lease=stack.enter_context(graphs.lease()))
    prepared: list[TrialStep] = []

    def step() -> None:
        first = not prepared
        if first:
            prepared.append(trial_step(graphs, settings))
        noise = prepared[0].predicted_noise(graphs, keep)
        if first:
            if not np.isfinite(noise).all():
                raise EngineError(f"{graphs.choice.name} gives values that are no numbers")
            answers[graphs.choice] = _Answer(noise=noise, reorders=graphs.engine(DENOISE).reorders())

    return Contender(graphs.choice.name, step)


def choice_is_fixed(choice: EngineChoice) -> bool:
    """Whether long work runs on graphs compiled for their sizes."""
    return choice.record.fixed_sizes_pay(float("inf"))


@dataclass(frozen=True, kw_only=True, eq=False)
class TrialStep:
    """What the denoiser is fed in a trial: a state, what stays from step to step, and what differs."""

    x: Array
    condition: Mapping[str, Array]
    row: PlanRow

    @property
    def feeds(self) -> dict[str, Array]:
        """The state, the condition and the row by the names of the denoiser's inputs."""
        return {"x": self.x, **self.condition, **self.row.feeds}

    def predicted_noise(self, graphs: GraphSet, keep: Keep = NOTHING_STAYS) -> Array:
        """The noise that the denoiser predicts in this trial."""
        return graphs.predicted_noise(self.x, self.condition, self.row, keep)


def trial_step(graphs: GraphSet, settings: TrialSettings) -> TrialStep:
    """The step of the trial, the same on every engine but for the rounding of what comes before the denoiser."""
    manifest = graphs.bundle.manifest
    config = recorded_config(manifest)
    trial = family_named(manifest.family).trial(config, settings.size, settings.batch)
    condition = chain(trial, [name for name in BEFORE_STEP if name in graphs], graphs.run)
    feeds = {name: condition.pop(name) for name in FED_BY_ROWS if name in condition}
    row = replace(PlanRow.evaluation(trial_noise_level(graphs.bundle)), feeds=feeds)
    return TrialStep(x=condition.pop("x"), condition=condition, row=graphs.row(row))


def trial_noise_level(bundle: Bundle) -> float:
    """The noise level of the trial's step: given, or that of the timestep where the network is conditioned on one."""
    if not family_named(bundle.manifest.family).sampling.integer_timesteps:
        return NOISE_LEVEL
    return NoiseSchedule.from_record(bundle.manifest.schedule).noise_level(TIMESTEP)


def sqnr_db(reference: Array, found: Array) -> float:
    """Power of the reference over that of the difference, in decibels; 200 for no difference."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    error = float(np.square(reference.astype(np.float64) - found).sum())
    return 200.0 if error == 0 else float(10 * np.log10(signal / error))
