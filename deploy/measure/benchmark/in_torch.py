"""The network as published, in PyTorch eager, and rewritten but still there: what the engines are compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from deploy.bundle import Bundle
from deploy.engine.graphs import DENOISE
from deploy.engine.turns import Contender
from deploy.families.cases import BEFORE_STEP, Trial, chain
from deploy.families.table import family_named, recorded_config
from deploy.measure.benchmark.settings import STEP, BenchSettings
from engines.errors import EngineError, short_words

PUBLISHED_NAME = "PyTorch, as published"
REWRITTEN_NAME = "PyTorch, rewritten"
DECODE = "decode"


@dataclass(frozen=True)
class Baseline:
    """The network as published, in PyTorch; `network` may have random weights, which take the same time."""

    network: Any
    trial: Trial
    family: str

    def encoded(self) -> Any:
        """The network on the trial, whose picture is encoded now: `step` and `finish` are what follows."""

        return family_named(self.family).published(self.network, self.trial)


def baseline_of(bundle: Bundle, settings: BenchSettings, network: Any | None) -> Baseline | None:
    """The baseline, of `network` or of one with random weights; None where torch is not installed."""
    if find_spec("torch") is None:
        return None
    import torch

    from deploy.families.published import stand_in_network

    torch.set_num_threads(settings.threads)
    family = bundle.manifest.family
    config = recorded_config(family, bundle.manifest.configuration)
    if network is None:
        network = stand_in_network(lambda: family_named(family).build(config))
    return Baseline(network, trial_of(bundle, settings), family)


def torch_contenders(bundle: Bundle, baseline: Baseline) -> dict[str, list[Contender]]:
    """For the step the published and the rewritten network, for decoding the published one.

    Everything before the step is made in the first turn, which is not counted.
    """
    published, rewritten = _Published(baseline), _Rewritten(bundle, baseline)
    groups = {
        STEP: [
            Contender(PUBLISHED_NAME, told_as_engine(lambda: published.ready.step())),
            Contender(REWRITTEN_NAME, told_as_engine(rewritten.step)),
        ]
    }
    if family_named(baseline.family).decodes:
        groups[DECODE] = [Contender(PUBLISHED_NAME, told_as_engine(lambda: published.ready.finish()))]
    return groups


def told_as_engine(work: Callable[[], Any]) -> Callable[[], Any]:
    """The same work, whose failure is an EngineError. PyTorch has a RuntimeError for everything, memory above all."""

    def guarded() -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed: {short_words(error)}") from error

    return guarded


def trial_of(bundle: Bundle, settings: BenchSettings) -> Trial:
    """The case that every contender of the step is given."""
    manifest = bundle.manifest
    config = recorded_config(manifest.family, manifest.configuration)
    return family_named(manifest.family).trial(config, settings.size, settings.batch)


class _Published:
    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    @cached_property
    def ready(self) -> Any:
        """Encoded when first asked for."""
        return self._baseline.encoded()


class _Rewritten:
    def __init__(self, bundle: Bundle, baseline: Baseline) -> None:
        self._bundle, self._baseline = bundle, baseline

    def step(self) -> Any:
        """One step of the rewritten network."""
        denoise, inputs = self._ready
        return denoise.run(inputs)

    @cached_property
    def _ready(self) -> tuple[Any, Any]:
        """The denoiser and its inputs, after the parts before it have run."""
        from deploy.families.rewriting.torch_ops import PartRunner

        manifest = self._bundle.manifest
        config = recorded_config(manifest.family, manifest.configuration)
        weights = {key: value.numpy() for key, value in self._baseline.network.state_dict().items()}
        parts = family_named(manifest.family).graphs(config, weights, frozenset(manifest.rewrites))
        runners = {part.name: PartRunner(part) for part in parts if part.name in (*BEFORE_STEP, DENOISE)}

        def run(graph: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
            outputs = runners[graph].run(runners[graph].tensors(feeds))
            return {key: value.numpy() for key, value in outputs.items()}

        feeds = chain(self._baseline.trial, [graph for graph in BEFORE_STEP if graph in runners], run)
        return runners[DENOISE], runners[DENOISE].tensors(feeds)
