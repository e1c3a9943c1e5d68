"""Whole pictures, everything included: from the pixels of a low-resolution picture to those of the large one."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle
from deploy.engine.choice import engine_choice
from deploy.engine.graphs import NOTHING, EngineChoice, GraphSet
from deploy.engine.turns import Contender, Split, Timing, measure, timing_of
from deploy.errors import PlanError
from deploy.families.contract import Keep
from deploy.families.table import family_named
from deploy.images.pictures import Pixels
from deploy.images.sizes import Size, times_grown
from deploy.measure.benchmark.settings import BenchSettings
from deploy.measure.benchmark.steps import (
    Baseline,
    failing_as_engine,
    runnable_choices,
    trial_of,
)
from deploy.picture.run import Progress as PictureProgress
from deploy.picture.session import Session
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from deploy.sampling.plan import PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from deploy.sampling.stages import ONCE
from engines.arrays import Array
from engines.contract import Step
from engines.forms import Lease
from engines.progress import Progress

ENCODE, DENOISE, DECODE, OTHER = "encode", "denoise", "decode", "other"
PART_OF_GRAPH = {
    "tabulate": ENCODE,
    "encode": ENCODE,
    "condition": ENCODE,
    "denoise": DENOISE,
    "decode": DECODE,
    "codes": DECODE,
    "features": DECODE,
    "attend": DECODE,
    "query": DECODE,
}
"""What runs once before the loop, in each of its steps, and once after it."""


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """How long whole pictures took.

    evaluations: of the network, per picture. timed_steps: None if every picture was really made; else how many steps
    were timed, of which `evaluations` times the mean of each turn was counted. choice and choices are None for rows
    of PyTorch.
    """

    timing: Timing
    sampling: str
    evaluations: int
    timed_steps: int | None = None
    choice: EngineChoice | None = None
    choices: Choices | None = None


class WatchedGraphs(GraphSet):
    """A GraphSet that adds up the seconds of its graphs by part of the work."""

    def __init__(self, bundle: Bundle, choice: EngineChoice) -> None:
        super().__init__(bundle, choice)
        self.seconds: dict[str, float] = {}
        self.at_once = 0
        """How many pictures the denoiser was given together, at most, since `reset`."""

    def reset(self) -> None:
        """Nothing was watched yet."""
        self.seconds.clear()
        self.at_once = 0

    def run(
        self,
        name: str,
        feeds: Mapping[str, Array],
        *,
        kept: Mapping[str, Array] = NOTHING,
        fixed: bool = False,
        lease: Lease | None = None,
        range_index: int = 0,
    ) -> dict[str, Array]:
        """All outputs of one graph."""
        part = PART_OF_GRAPH.get(name, OTHER)
        if part == DENOISE:
            self.at_once = max(self.at_once, feeds["x"].shape[0])
        with self._timed(part):
            return super().run(name, feeds, kept=kept, fixed=fixed, lease=lease, range_index=range_index)

    def followed(
        self, x: NDArray[np.float32], condition: Mapping[str, Array], steps: Iterable[Step], keep: Keep
    ) -> NDArray[np.float32]:
        """All steps of a picture on the device, the sampler's arithmetic included."""
        self.at_once = max(self.at_once, x.shape[0])
        with self._timed(DENOISE):
            return super().followed(x, condition, steps, keep)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began


class PictureMaker:
    """Makes pictures of a bundle on one engine, as `infer` and `generate` do; closed with the stack."""

    def __init__(self, bundle: Bundle, choice: EngineChoice, stack: ExitStack) -> None:
        checked = engine_choice(bundle, choice.backend, choice.precision, choice.threads, choice.device)
        checked = replace(checked, around=choice.around, normalisation=choice.normalisation)
        self.graphs = WatchedGraphs(bundle, checked)
        self._session = stack.enter_context(Session(bundle, checked, graphs=self.graphs))
        self.upscaler = Upscaler.of_session(self._session)
        self.tile: int | None = None
        """Side of the tiles; None: as is fastest, 0: whole."""
        self.tiles = 1
        """Of the picture made last."""

    def make(self, pictures: Sequence[Pixels], size: Size, choices: Choices) -> Split:
        """The seconds of making these pictures at (height, width) at once, by part."""
        self.graphs.reset()
        began = time.perf_counter()
        if self._session.model.generates:
            self.upscaler.generate([size.for_user], count=len(pictures), choices=choices, progress=self._note)
        else:
            self.upscaler.upscale(
                list(pictures), size=size.for_user, choices=choices, tile=self.tile, progress=self._note
            )
        return split_from(time.perf_counter() - began, self.graphs.seconds)

    def _note(self, progress: PictureProgress) -> None:
        self.tiles = progress.tiles


def split_from(total: float, seconds: Mapping[str, float]) -> Split:
    """The parts that were watched, and as OTHER what is missing to the total: noise, the sampler, resizing, pixels."""
    parts = {part: seconds.get(part, 0.0) for part in (ENCODE, DENOISE, DECODE)}
    return Split(parts | {OTHER: max(0.0, total - sum(parts.values()))})


def lr_size_of(bundle: Bundle, settings: BenchSettings) -> Size:
    """(height, width) of the input, as the family's trial has it."""
    return trial_of(bundle, settings).lr_size


def random_pictures(size: Size, count: int) -> list[Pixels]:
    """Pictures of (height, width) that are all different."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)]


def time_pictures(
    bundle: Bundle, settings: BenchSettings, baseline: Baseline | None, progress: Progress
) -> list[PictureRow]:
    """The published network, whose turns are a few steps, then every engine with every way to sample."""
    rows: list[tuple[Contender, PictureRow]] = []
    pictures = random_pictures(lr_size_of(bundle, settings), settings.batch)
    with ExitStack() as stack:
        for choice in runnable_choices(bundle, settings):
            maker = PictureMaker(bundle, choice, stack)
            rows += [_engine_contender(maker, choice, choices, pictures, settings) for choices in settings.choices]
        contenders = [contender for contender, _ in rows]
        published = None
        if baseline is not None:
            published = published_contender(baseline, settings.published_steps, time.perf_counter)
            contenders.insert(0, published)
        measure(contenders, settings.rounds, time.perf_counter, progress)
    timed = [] if published is None else published_rows(published, bundle, settings)
    return timed + [replace(row, timing=replace(timing_of(c), name=row.timing.name)) for c, row in rows]


def _engine_contender(
    maker: PictureMaker, choice: EngineChoice, choices: Choices, pictures: Sequence[Pixels], settings: BenchSettings
) -> tuple[Contender, PictureRow]:
    # What is compared is the work of one size: the published samplers enlarge in one go.
    choices = Choices(stages=ONCE).before(choices) if choices.stages is None else choices
    grown = times_grown(Size.of(pictures[0]), settings.size) if pictures else None
    sampling = maker.upscaler.sampling(choices, grown)
    recipe = f", {choices.preset or f'plain {choices.steps}'}" if len(settings.choices) > 1 else ""
    row = PictureRow(
        timing=Timing(name=f"{choice.name}{recipe}"),
        sampling=sampling.recipe(),
        evaluations=len(maker.upscaler.session.plan(sampling)) * sampling.draws,
        choice=choice,
        choices=choices,
    )
    return Contender(row.timing.name, lambda: maker.make(pictures, settings.size, choices)), row


def published_contender(baseline: Baseline, steps: int, clock: Callable[[], float]) -> Contender:
    """Encodes, makes `steps` steps, decodes; DENOISE is the mean of one step."""

    def turn() -> Split:
        began = clock()
        published = baseline.encoded()
        encoded = clock()
        for _ in range(steps):
            published.step()
        denoised = clock()
        published.finish()
        decoded = clock()
        return Split({ENCODE: encoded - began, DENOISE: (denoised - encoded) / steps, DECODE: decoded - denoised})

    return Contender(baseline.name, failing_as_engine(turn))


def published_rows(contender: Contender, bundle: Bundle, settings: BenchSettings) -> list[PictureRow]:
    """One row per published sampler: what encoding, all its steps and decoding take, from the turns' means."""
    rows = []
    for label, evaluations in published_samplers(bundle):
        timing = timing_of(contender)
        if timing.failure is None:
            parts = tuple({**turn, DENOISE: turn[DENOISE] * evaluations} for turn in timing.parts_ms)
            timing = Timing(
                name=f"{contender.name}, {label}", times_ms=tuple(sum(turn.values()) for turn in parts), parts_ms=parts
            )
        timed = settings.rounds * settings.published_steps
        rows.append(PictureRow(timing=timing, sampling=label, evaluations=evaluations, timed_steps=timed))
    return rows


def published_samplers(bundle: Bundle) -> list[tuple[str, int]]:
    """(label, evaluations) of the ways in which the authors' code samples; those their grid has no room for are out."""
    family = family_named(bundle.manifest.family)
    schedule = NoiseSchedule.from_record(bundle.manifest.schedule)
    samplers = []
    for equation in family.published_equations:
        steps = schedule.timesteps if equation == "ddpm" else family.published_ddim_steps
        try:
            plan = make_plan(
                schedule, PlanSettings(equation=equation, steps=steps, published=True), rules=family.sampling
            )
        except PlanError:  # a schedule of fewer steps than that
            continue
        samplers.append((f"{equation.upper()}-{steps}", len(plan)))
    return samplers


def speed_ups(rows: Sequence[PictureRow]) -> list[dict[str, float]]:
    """For each row, how many times faster it is than each published sampler, by medians."""
    published = [row for row in rows if row.timed_steps is not None and row.timing.times_ms]
    return [
        {base.sampling: base.timing.median_ms / row.timing.median_ms for base in published}
        if row.timing.times_ms and row.timed_steps is None
        else {}
        for row in rows
    ]


def fastest(rows: Sequence[PictureRow]) -> tuple[EngineChoice, Choices] | None:
    """The engine and the way to sample of the least median; None if every engine failed."""
    timed = [
        (row.timing.median_ms, row.choice, row.choices)
        for row in rows
        if row.timing.times_ms and row.choice is not None and row.choices is not None
    ]
    return min(timed, key=lambda one: one[0])[1:] if timed else None


Case = tuple[int, Size]
"""How many pictures, and their (height, width)."""


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """Times of `count` pictures at (height, width). tiles: per step; more than one where memory was too little.

    at_once: how many of the pictures ran together; less than `count` where memory was too little, or where more
    are never run together.
    """

    timing: Timing
    count: int
    size: Size
    tiles: int
    at_once: int

    @property
    def pictures_per_second(self) -> float:
        """At the median."""
        return self.count / self.timing.median_ms * 1e3

    @property
    def us_per_pixel(self) -> float:
        """Microseconds per output pixel, at the median."""
        return self.timing.median_ms * 1e3 / (self.count * self.size[0] * self.size[1])


def sweep(
    bundle: Bundle,
    settings: BenchSettings,
    chosen: tuple[EngineChoice, Choices],
    cases: Sequence[Case],
    progress: Progress,
) -> list[SweepRow]:
    """One row per case, of one and the same input size, by one engine and way to sample."""
    lr = lr_size_of(bundle, settings)
    choice, choices = chosen
    seen = [(1, 0)] * len(cases)  # tiles, and pictures at once
    with ExitStack() as stack:
        maker = PictureMaker(bundle, choice, stack)
        maker.tile = settings.tile

        def turn(number: int) -> Split:
            count, size = cases[number]
            split = maker.make(random_pictures(lr, count), size, choices)
            seen[number] = maker.tiles, maker.graphs.at_once
            return split

        contenders = [
            Contender(f"{count} at {size}", partial(turn, number)) for number, (count, size) in enumerate(cases)
        ]
        measure(contenders, settings.sweep_rounds, time.perf_counter, progress)
    return [
        SweepRow(timing=timing_of(contender), count=count, size=size, tiles=tiles, at_once=at_once)
        for contender, (count, size), (tiles, at_once) in zip(contenders, cases, seen, strict=True)
    ]
