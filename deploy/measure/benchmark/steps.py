"""One denoising step, and decoding where a latent is decoded, on every engine here beside the network in PyTorch."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

from deploy.bundle import Bundle
from deploy.engine.choice import choices_here
from deploy.engine.graphs import DENOISE, EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, TrialStep, trial_step
from deploy.engine.turns import Contender
from deploy.errors import DeployError, MissingPackage
from deploy.families.bundles import recorded_config
from deploy.families.cases import BEFORE_STEP, Trial, chain
from deploy.families.contract import Peer
from deploy.families.table import family_named
from deploy.measure.benchmark.settings import STEP, BenchSettings
from deploy.picture.session import Session
from engines.errors import EngineError, short_words

PUBLISHED_NAME = "PyTorch, as published"

REWRITTEN_NAME = "PyTorch, rewritten"

DECODE = "decode"


@dataclass(frozen=True)
class Baseline:
    """The network as published, in PyTorch; `network` may have random weights, which take the same time.

    Where people run it with another package and that is installed, it is timed there.
    """

    network: Any
    trial: Trial
    family: str

    @property
    def peer(self) -> Peer | None:
        """The other package, if it is here."""
        peer = family_named(self.family).peer
        return peer if peer is not None and find_spec(peer.package) is not None else None

    @property
    def name(self) -> str:
        """What tables call it."""
        return PUBLISHED_NAME if self.peer is None else f"{self.peer.package}, eager"

    def encoded(self) -> Any:
        """The network on the trial, whose picture is encoded now: `step` and `finish` are what follows."""
        published = family_named(self.family).published if self.peer is None else self.peer.published
        return published(self.network, self.trial)


def step_contenders(
    bundle: Bundle, settings: BenchSettings, baseline: Baseline | None, stack: ExitStack
) -> dict[str, list[Contender]]:
    """One list of contenders for the step and, where a latent is decoded, one for decoding to the output size."""
    groups: dict[str, list[Contender]] = {STEP: []}
    if baseline is not None:
        groups = torch_contenders(bundle, baseline)
    for choice in runnable_choices(bundle, settings):
        session = stack.enter_context(Session(bundle, choice))
        groups[STEP].append(Contender(choice.name, _engine_step(session.graphs, settings)))
        if session.model.decoder is not None:
            groups.setdefault(DECODE, []).append(Contender(choice.name, _decoding(session, settings)))
    return groups


def runnable_choices(bundle: Bundle, settings: BenchSettings) -> list[EngineChoice]:
    """Every backend and precision that is here, that the bundle has graphs for and that was asked for."""
    here = [
        choice
        for choice in choices_here(bundle, settings.threads, device=settings.device)
        if settings.device is None or choice.record.on_gpu
    ]
    if not here:
        raise MissingPackage("No engine is installed to time: pip install 'idm-deploy[cpu]'.")
    choices = [
        choice
        for choice in here
        if choice.backend in (settings.engines or (choice.backend,))
        and choice.precision in (settings.precisions or (choice.precision,))
    ]
    if not choices:
        names = ", ".join(choice.name for choice in here)
        raise DeployError(f"{bundle.path}: nothing of what was asked for can be timed; there is {names}.")
    return choices


def _engine_step(graphs: GraphSet, settings: BenchSettings) -> Callable[[], object]:
    """What makes a step on a graph compiled for its sizes; the first call, which is not counted, prepares all that."""
    prepared: list[TrialStep] = []

    def step() -> None:
        if not prepared:
            prepared.append(trial_step(graphs, TrialSettings(size=settings.size, batch=settings.batch)))
            graphs.fix_sizes(DENOISE, prepared[0].feeds)
        prepared[0].predicted_noise(graphs)

    return step


def _decoding(session: Session, settings: BenchSettings) -> Callable[[], object]:
    """Decoding one latent of the training's size to the output size, as the run time does it."""

    def decode() -> None:
        if session.model.decoder is not None:
            for _ in session.model.decoder.rows(trial_of(session.bundle, settings).feeds["z"], settings.size):
                pass

    return decode


def baseline_of(bundle: Bundle, settings: BenchSettings, network: Any | None) -> Baseline | None:
    """The baseline, of `network` or of one with random weights; None where torch is not installed."""
    if find_spec("torch") is None:
        return None
    import torch

    from deploy.families.published import stand_in_network

    torch.set_num_threads(settings.threads)
    family = bundle.manifest.family
    config = recorded_config(bundle.manifest)
    if network is None:
        network = stand_in_network(lambda: family_named(family).build(config))
    return Baseline(network, trial_of(bundle, settings), family)


def torch_contenders(bundle: Bundle, baseline: Baseline) -> dict[str, list[Contender]]:
    """For the step the published and the rewritten network, for decoding the published one.

    Everything before the step is made in the first turn, which is not counted.
    """
    published = cache(baseline.encoded)
    rewritten = cache(lambda: _rewritten(bundle, baseline))

    def rewritten_step() -> Any:
        denoise, inputs = rewritten()
        return denoise.run(inputs)

    groups = {
        STEP: [
            Contender(baseline.name, failing_as_engine(lambda: published().step())),
            Contender(REWRITTEN_NAME, failing_as_engine(rewritten_step)),
        ]
    }
    if family_named(baseline.family).decodes:
        groups[DECODE] = [Contender(baseline.name, failing_as_engine(lambda: published().finish()))]
    return groups


def failing_as_engine(work: Callable[[], Any]) -> Callable[[], Any]:
    """The work, with its failures as EngineErrors: PyTorch has a RuntimeError for everything, memory above all."""

    def guarded() -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed: {short_words(error)}") from error

    return guarded


def trial_of(bundle: Bundle, settings: BenchSettings) -> Trial:
    """The case that every contender of the step is given."""
    manifest = bundle.manifest
    config = recorded_config(manifest)
    return family_named(manifest.family).trial(config, settings.size, settings.batch)


def _rewritten(bundle: Bundle, baseline: Baseline) -> tuple[Any, Any]:
    """The rewritten denoiser in PyTorch and its inputs, after the parts before it have run."""
    from deploy.families.rewriting.torch_ops import PartRunner

    manifest = bundle.manifest
    config = recorded_config(manifest)
    weights = {key: value.numpy() for key, value in baseline.network.state_dict().items()}
    parts = family_named(manifest.family).graphs(config, weights, frozenset(manifest.rewrites))
    runners = {part.name: PartRunner(part) for part in parts if part.name in (*BEFORE_STEP, DENOISE)}

    def run(graph: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        outputs = runners[graph].run(runners[graph].tensors(feeds))
        return {key: value.numpy() for key, value in outputs.items()}

    feeds = chain(baseline.trial, [graph for graph in BEFORE_STEP if graph in runners], run)
    return runners[DENOISE], runners[DENOISE].tensors(feeds)
