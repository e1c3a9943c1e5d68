"""Times one step of a bundle's denoiser on every engine here, beside the network as published, in one process.

The contenders take turns, so that a machine whose speed drifts slows all of them; quoted are medians and ratios.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any

from deploy.bundle import Bundle
from deploy.checkpoint import family_named
from deploy.errors import DeployError, MissingPackage
from deploy.families import recorded_config
from deploy.runtime.graphs import DENOISE, INT8, EngineChoice, GraphSet
from deploy.runtime.int8 import has_int8
from deploy.runtime.latent import LARGEST_QUERY_BYTES, LatentModel, LatentSubject
from deploy.trials import NOISE_LEVEL, TRIALS, Trial, chain
from engines.backends import BACKENDS
from engines.errors import EngineError

Size = tuple[int, int]
Clock = Callable[[], float]
Progress = Callable[[str, float], None]

PUBLISHED_NAME = "PyTorch, as published"
REWRITTEN_NAME = "PyTorch, rewritten"
BEFORE_STEP = ("tabulate", "encode", "condition")
"""Graphs that run before the first step, in this order, where a bundle has them."""


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What is timed. Sizes are (height, width) of the output."""

    size: Size = (128, 128)
    batch: int = 1
    threads: int = 2
    rounds: int = 7

    def __post_init__(self) -> None:
        found = {"height": self.size[0], "width": self.size[1], "batch": self.batch}
        found |= {"threads": self.threads, "rounds": self.rounds}
        if wrong := [f"{name} {value}" for name, value in found.items() if value < 1]:
            raise DeployError(f"the benchmark cannot run with {', '.join(wrong)}: each must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One contender's times in milliseconds, one per round; or why it has none."""

    name: str
    times_ms: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def median_ms(self) -> float:
        """The middle time."""
        return median(self.times_ms)


@dataclass
class Contender:
    """Something that makes one step when called."""

    name: str
    step: Callable[[], Any]
    times_ms: list[float] = field(default_factory=list)
    failure: str | None = None


STEP, DECODE = "step", "decode"


def bench_bundle(
    bundle: Bundle, settings: BenchSettings, network: Any | None, progress: Progress
) -> dict[str, list[Timing]]:
    """Times of one step and, where a latent is decoded, of decoding it to the output size; one list per contender kind.

    The published network comes first if torch is there: `network`, or one with random weights.
    """
    with ExitStack() as stack:
        groups = _engine_contenders(bundle, settings, stack)
        for kind, contenders in _torch_contenders(bundle, settings, network).items():
            groups[kind] = contenders + groups[kind]
        for number, contenders in enumerate(groups.values()):
            measure(contenders, settings.rounds, time.perf_counter, _part_of(progress, number, len(groups)))
    return {
        kind: [Timing(name=c.name, times_ms=tuple(c.times_ms), failure=c.failure) for c in contenders]
        for kind, contenders in groups.items()
    }


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    return lambda doing, fraction: progress(doing, (number + fraction) / count)


def measure(contenders: list[Contender], rounds: int, clock: Clock, progress: Progress) -> None:
    """Each contender once to warm up, then `rounds` rounds in which all take their turn.

    One that fails is out from then on, with the reason; the others go on.
    """
    total = len(contenders) * (rounds + 1)
    for turn in range(rounds + 1):
        for number, contender in enumerate(contenders):
            if contender.failure is None:
                progress(contender.name, (turn * len(contenders) + number) / total)
                _take_turn(contender, clock, counted=turn > 0)


def _take_turn(contender: Contender, clock: Clock, *, counted: bool) -> None:
    try:
        begin = clock()
        contender.step()
        elapsed = clock() - begin
    except EngineError as error:
        contender.failure = str(error)
        return
    if counted:
        contender.times_ms.append(elapsed * 1e3)


def ratios(timings: list[Timing]) -> Mapping[str, float]:
    """How many times faster than the first timing each is, by medians; those without times are left out."""
    timed = [timing for timing in timings if timing.times_ms]
    return {timing.name: timed[0].median_ms / timing.median_ms for timing in timed}


def _torch_contenders(bundle: Bundle, settings: BenchSettings, network: Any | None) -> dict[str, list[Contender]]:
    """The network as published, and rewritten but still in PyTorch; nothing where torch is not installed."""
    if find_spec("torch") is None:
        return {}
    import torch

    from deploy.networks.published import PUBLISHED, stand_in_network
    from deploy.rewrite.table import REWRITES_OF_FAMILY
    from deploy.rewrite.torch_ops import PartRunner

    torch.set_num_threads(settings.threads)
    name = bundle.manifest.family
    config = recorded_config(name, bundle.manifest.configuration)
    if network is None:
        network = stand_in_network(lambda: family_named(name).build(config))
    trial = TRIALS[name](config, settings.size, settings.batch)
    published = PUBLISHED[name](network, trial)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    parts = REWRITES_OF_FAMILY[name].parts(config, weights, frozenset(bundle.manifest.rewrites))
    runners = {part.name: PartRunner(part) for part in parts if part.name in (*BEFORE_STEP, DENOISE)}

    def run(graph: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        outputs = runners[graph].run(runners[graph].tensors(feeds))
        return {key: value.numpy() for key, value in outputs.items()}

    feeds = chain(trial, [graph for graph in BEFORE_STEP if graph in runners], run)
    denoise = runners[DENOISE]
    inputs = denoise.tensors(feeds)
    groups = {STEP: [Contender(PUBLISHED_NAME, published.step), Contender(REWRITTEN_NAME, lambda: denoise.run(inputs))]}
    if name in DECODERS:
        groups[DECODE] = [Contender(PUBLISHED_NAME, published.finish)]
    return groups


def _engine_contenders(bundle: Bundle, settings: BenchSettings, stack: ExitStack) -> dict[str, list[Contender]]:
    """One per backend and precision that this machine can run."""
    groups: dict[str, list[Contender]] = {STEP: []}
    for choice in runnable_choices(bundle, settings.threads):
        graphs = stack.enter_context(GraphSet(bundle, choice))
        name = f"{choice.backend} {choice.precision}"
        groups[STEP].append(Contender(name, _engine_step(graphs, settings)))
        if decoder := DECODERS.get(bundle.manifest.family):
            groups.setdefault(DECODE, []).append(Contender(name, decoder(graphs, settings)))
    if not groups[STEP]:
        raise MissingPackage("No engine is installed to time: pip install 'idm-deploy[cpu]'.")
    return groups


def runnable_choices(bundle: Bundle, threads: int) -> list[EngineChoice]:
    """Every backend and precision that is installed here and that the bundle has graphs for."""
    choices = []
    for name, backend in BACKENDS.items():
        if backend.probe().available:
            precisions = [*backend.PRECISIONS, *([INT8] if has_int8(bundle, name) else [])]
            choices += [EngineChoice(backend=name, precision=p, threads=threads) for p in dict.fromkeys(precisions)]
    return choices


def _engine_step(graphs: GraphSet, settings: BenchSettings) -> Callable[[], object]:
    """One step on a graph compiled for its sizes. Its first call, which is not counted, also prepares all that."""
    prepared: dict[str, Any] = {}

    def step() -> None:
        if not prepared:
            trial = _trial(graphs, settings)
            prepared.update(chain(trial, [name for name in BEFORE_STEP if name in graphs], graphs.run))
            prepared.update(graphs.rows_in_precision([{}], [NOISE_LEVEL])[0])
            graphs.fix_sizes(DENOISE, prepared)
        graphs.run(DENOISE, prepared)

    return step


def _latent_decoder(graphs: GraphSet, settings: BenchSettings) -> Callable[[], object]:
    """Decoding one latent of the training's size to the output size, as the run time does it."""

    def decode() -> None:
        state = _trial(graphs, settings).feeds["z"]
        subject = LatentSubject(LatentModel(graphs), None, state.shape, settings.size, (1.0, 1.0))
        for _ in subject.picture_rows(state, LARGEST_QUERY_BYTES):
            pass

    return decode


DECODERS: Mapping[str, Callable[[GraphSet, BenchSettings], Callable[[], object]]] = {"latent": _latent_decoder}
"""The families whose state still has to be decoded after the last step."""


def _trial(graphs: GraphSet, settings: BenchSettings) -> Trial:
    manifest = graphs.bundle.manifest
    config = recorded_config(manifest.family, manifest.configuration)
    return TRIALS[manifest.family](config, settings.size, settings.batch)
