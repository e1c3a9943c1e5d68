"""One denoising step, and decoding for the latent family, on every engine here beside the network as published."""

from collections.abc import Callable
from contextlib import ExitStack

from deploy.bundle import Bundle
from deploy.engine.choice import choices_here
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, TrialStep, trial_step
from deploy.engine.turns import Contender
from deploy.errors import DeployError, MissingPackage
from deploy.families.table import family_named
from deploy.measure.benchmark.in_torch import DECODE, Baseline, torch_contenders, trial_of
from deploy.measure.benchmark.settings import STEP, BenchSettings


def step_contenders(
    bundle: Bundle, settings: BenchSettings, baseline: Baseline | None, stack: ExitStack
) -> dict[str, list[Contender]]:
    """One list of contenders for the step and, where a latent is decoded, one for decoding to the output size."""
    groups: dict[str, list[Contender]] = {STEP: []}
    if baseline is not None:
        groups = torch_contenders(bundle, baseline)
    for choice in runnable_choices(bundle, settings):
        graphs = stack.enter_context(GraphSet(bundle, choice))
        groups[STEP].append(Contender(name_of(choice), _engine_step(graphs, settings)))
        if family_named(bundle.manifest.family).decodes:
            groups.setdefault(DECODE, []).append(Contender(name_of(choice), _decoding(graphs, settings)))
    return groups


def name_of(choice: EngineChoice) -> str:
    """How a table calls an engine and precision."""
    return f"{choice.backend} {choice.precision}"


def runnable_choices(bundle: Bundle, settings: BenchSettings) -> list[EngineChoice]:
    """Every backend and precision that is here, that the bundle has graphs for and that was asked for."""
    here = [
        choice
        for choice in choices_here(bundle, settings.threads, device=settings.device)
        if settings.device is None or choice.record.on_gpu
    ]
    if not here:
        raise MissingPackage("No engine is installed to time: pip install 'idm-deploy[cpu]'.")
    chosen = [
        choice
        for choice in here
        if choice.backend in (settings.engines or (choice.backend,))
        and choice.precision in (settings.precisions or (choice.precision,))
    ]
    if not chosen:
        names = ", ".join(name_of(choice) for choice in here)
        raise DeployError(f"{bundle.path}: nothing of what was asked for can be timed; there is {names}.")
    return chosen


def _engine_step(graphs: GraphSet, settings: BenchSettings) -> Callable[[], object]:
    """One step on a graph compiled for its sizes. Its first call, which is not counted, also prepares all that."""
    prepared: list[TrialStep] = []

    def step() -> None:
        if not prepared:
            prepared.append(trial_step(graphs, TrialSettings(size=settings.size, batch=settings.batch)))
            graphs.fix_sizes(DENOISE, prepared[0].feeds)
        prepared[0].predicted_noise(graphs)

    return step


def _decoding(graphs: GraphSet, settings: BenchSettings) -> Callable[[], object]:
    """Decoding one latent of the training's size to the output size, as the run time does it."""

    def decode() -> None:
        decoder = family_named(graphs.bundle.manifest.family).model(graphs).decoder
        if decoder is not None:
            for _ in decoder.rows(trial_of(graphs.bundle, settings).feeds["z"], settings.size):
                pass

    return decode
