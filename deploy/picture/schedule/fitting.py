"""Rows of coefficients fitted to a bundle: few steps that end as near to known originals as their number allows.

A step makes the next state of the state x and of the estimates of the picture so far, newest first:

    x_next = a*x + b[0]*x0 + b[1]*x0_previous + ... + d*noise.

The noise of a next state is all fresh, d = sigma_next (docs/measurements.md says what less of it lost). For a
placement, a and b then follow by least squares, from the first step to the last: on pictures whose originals o are
known, the next state is to be alpha_next*o and that noise, the last one o. A ridge draws towards b[0] = alpha_next
alone, the first-order step, which is what is left where the pictures say nothing. For example, of two steps the last
row about averages both estimates: what the network gets wrong by chance differs between them, more so if it is shown
the picture turned.

Everything runs on the engine and in the precision that will run, so what int8 gets wrong always, rows take back.
(Predecessors with gradients: Watson et al. 2022, "Learning fast samplers"; PAS; S4S.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.fitted import FittedEquation, FittedStep, FittedTo
from deploy.errors import PlanError
from deploy.families.contract import Subject
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.images.values import network_from_pixels, pixels_from_network
from deploy.picture.session import Session
from deploy.sampling.fitted import fitted_name
from deploy.sampling.loop import starting_state
from deploy.sampling.noise import START_NOISE, image_key
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.placement import PLACEMENTS
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule, log_snr_from_noise_level, noise_level_from_log_snr
from deploy.sampling.step import advance, estimate_picture
from deploy.sampling.turns import AS_IT_IS, TURNS, Turn, turned
from engines.arrays import Float32

RIDGE = 1e-4
"""Variance of the estimates' differences below which rows stay what they are without a fit; pictures are in [-1, 1]."""

MOST_STEPS = 20
"""Every row keeps all estimates."""

FEWEST_PICTURES = 2

AGAIN = 0.3
"""Noise level from which placements by stride go on after pure noise: below it, networks see little of a picture."""

STRIDES = (0.5, 1.0)
"""Of the log-SNR between steps, in placements that look several times at about the same noise."""

LASTS = (0.95, 0.985)
"""Noise levels of the last step in these."""

FIRST_LOOK = 6
"""Pictures on which all candidates are fitted and looked at; the best FINALISTS then on all, at all scales."""

FINALISTS = 2

FLAT = 1e-4
"""Variance of a picture of one colour, at most; a single level is (2/255)^2 = 6e-5."""

Pixels = NDArray[np.uint8]
Levels = tuple[float, ...]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """An original and what it is enlarged from, uint8 (height, width, 3)."""

    lr: Pixels
    original: Pixels


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What to fit. start: None is pure noise. scales: of the pairs, the first is the one that is looked at."""

    steps: int
    start: float | None
    consistency: float
    scales: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise PlanError(f"Rows are fitted for 1 to {MOST_STEPS} steps, {self.steps} were asked for.")


@dataclass(kw_only=True)
class _Run:
    """A picture on its way: its state and the estimates so far."""

    subject: Subject
    source: NoiseSource
    original: Float32
    pixels: Pixels
    state: Float32
    estimates: list[Float32]


class Fitter:
    """Fits equations to the model of a session.

    pairs: by scale, as many of each. look: how like its original a picture is, more is better.
    """

    def __init__(
        self,
        session: Session,
        pairs: Mapping[float, Sequence[Pair]],
        look: Callable[[Pixels, Pixels], float],
    ) -> None:
        check_model(session.model)
        check_pairs(next(iter(pairs.values())))
        self._session = session
        self._model = session.model
        self._pairs = pairs
        self._look = look

    @property
    def pictures(self) -> int:
        """How many rows are fitted to."""
        return len(next(iter(self._pairs.values())))

    def fit(self, request: FitRequest, progress: Callable[[str, float], None]) -> FittedEquation:
        """The equation of so many steps that looks best. progress: what is being done, and how much is done."""
        candidates = placements(self._session.schedule, request.steps, request.start, self._model)
        usual = self._pairs[request.scales[0]]
        few = [usual[index * len(usual) // FIRST_LOOK] for index in range(min(FIRST_LOOK, len(usual)))]
        name = fitted_name(request.steps)
        looks: list[tuple[float, Levels]] = []
        whole = len(candidates) * len(few) + FINALISTS * sum(len(pairs) for pairs in self._pairs.values())
        done = 0
        for candidate in candidates:
            progress(f"{name}: {len(candidates)} placements on {len(few)} pictures", done / whole)
            _, look = self._fitted(candidate, [few], request)
            looks.append((look, candidate))
            done += len(few)
        finalists = [candidate for _, candidate in sorted(looks, key=lambda entry: -entry[0])[:FINALISTS]]
        every = [self._pairs[scale] for scale in request.scales]
        best: tuple[float, tuple[FittedStep, ...]] | None = None
        for candidate in finalists:
            progress(f"{name}: the best on all pictures and scales", done / whole)
            steps, look = self._fitted(candidate, every, request)
            best = max(best or (look, steps), (look, steps), key=lambda entry: entry[0])
            done += sum(map(len, every))
        assert best is not None
        int8, choice = self._session.graphs.int8, self._session.choice
        return FittedEquation(
            steps=best[1],
            from_guess=request.start is not None,
            consistency=request.consistency,
            fitted_to=FittedTo(
                family=self._session.bundle.manifest.family,
                engine=choice.backend,
                precision=choice.precision,
                pictures=len(usual),
                scales=request.scales,
                seed=request.seed,
                int8_target=None if int8 is None else int8.target,
                int8_sha256=None if int8 is None else int8.digest,
                look=best[0],
            ),
        )

    def _turns(self, steps: int) -> list[Turn]:
        """How each step turns the picture: all ways in turn, if the model can."""
        can_turn = self._model.refusal_of_turns() is None
        return [TURNS[index % len(TURNS)] if can_turn else AS_IT_IS for index in range(steps)]

    def _fitted(
        self, levels: Levels, groups: Sequence[Sequence[Pair]], request: FitRequest
    ) -> tuple[tuple[FittedStep, ...], float]:
        """The rows fitted to all groups, and how the pictures of the first look."""
        plan = self._plan(levels)
        turns = self._turns(len(plan))
        rows = [replace(row, turn=turn) for row, turn in zip(self._model.rows(plan.rows), turns, strict=True)]
        runs = [self._begun(pair, plan, request) for pairs in groups for pair in pairs]
        steps = []
        for index, row in enumerate(rows):
            for run in runs:
                run.estimates.insert(0, self._estimate(run, row, request.consistency))
            alpha = rows[index + 1].noise_level if index + 1 < len(rows) else 1.0
            sigma = rows[index + 1].sigma if index + 1 < len(rows) else 0.0
            factors = fitted_factors(
                (([run.state, *run.estimates], alpha * run.original) for run in runs),
                np.array([0.0, alpha, *[0.0] * index]),
            )
            made = replace(row, x=factors[0], x0=factors[1:], noise=sigma)
            for run in runs:
                drawn = self._normal(run, index) if sigma else None
                advance(made, run.state, run.estimates, drawn, np.empty_like(run.state))
            steps.append(
                FittedStep(noise_level=made.noise_level, x=made.x, x0=made.x0, noise=made.noise, turn=made.turn)
            )
        values = self._model.values
        looks = [
            self._look(pixels_from_network(np.clip(run.state, -1.0, 1.0), values)[0], run.pixels)
            for run in runs[: len(groups[0])]
        ]
        return tuple(steps), float(np.mean(looks))

    def _plan(self, levels: Levels) -> Plan:
        settings = PlanSettings(steps=len(levels), placement=levels)
        return make_plan(self._session.schedule, settings, rules=self._model.sampling)

    def _begun(self, pair: Pair, plan: Plan, request: FitRequest) -> _Run:
        source = NoiseSource(seed=request.seed, sample=0, images=[image_key(pair.lr)])
        lr = network_from_pixels(pair.lr, self._model.values)[None]
        subject = self._model.subject(lr, Size.of(pair.original), source.posterior)
        whole = slice(0, subject.state_shape[2])
        noise = source.rows(subject.state_shape, START_NOISE, whole)
        guess = None if request.start is None else subject.first_guess(whole)
        return _Run(
            subject=subject,
            source=source,
            original=network_from_pixels(pair.original, self._model.values)[None],
            pixels=pair.original,
            state=starting_state(plan, noise, guess).astype(np.float32),
            estimates=[],
        )

    def _estimate(self, run: _Run, row: PlanRow, consistency: float) -> Float32:
        """Of the picture at this step; its condition is made for the step alone: those of all take too much memory."""
        subject = run.subject if row.turn == AS_IT_IS else self._model.turned(run.subject, row.turn)
        condition = subject.condition(Window.whole(Size(*subject.state_shape[2:])))
        state = np.ascontiguousarray(turned(run.state, row.turn))
        predicted = turned(self._model.predict(state, condition, row), row.turn)
        estimate = np.empty_like(run.state)
        estimate_picture(row, run.state, predicted, out=estimate, scratch=np.empty_like(run.state))
        if row.clip:
            np.clip(estimate, -1.0, 1.0, out=estimate)
        if consistency:
            run.subject.make_consistent(estimate, consistency, lambda: None)
        return estimate

    def _normal(self, run: _Run, step_index: int) -> Float32:
        shape = run.subject.state_shape
        return run.source.rows(shape, step_index, slice(0, shape[2]))


def check_model(model: Model) -> None:
    """PlanError unless originals can be states of the model's sampler."""
    if model.decoder is not None or model.generates:
        raise PlanError(
            "Rows are fitted to originals as states of the sampler, but the state of this model is a latent: no "
            "original is known of it. Choose an equation by rule."
        )


def check_pairs(pairs: Sequence[Pair]) -> None:
    """PlanError unless the pictures can say something of coefficients."""
    if len(pairs) < FEWEST_PICTURES:
        raise PlanError(
            f"Rows that are fitted to {len(pairs)} picture fit that one alone; give at least {FEWEST_PICTURES} "
            "originals, better 16."
        )
    if all(np.var(pair.original / 127.5, axis=(0, 1)).max() <= FLAT for pair in pairs):
        raise PlanError(
            "All originals are of one colour, which any row of coefficients makes: rows cannot be fitted to them. Give "
            "photographs."
        )


def fitted_factors(terms: Any, towards: Float64, ridge: float = RIDGE) -> tuple[float, ...]:
    """The factors by which arrays add up to their target, in the least squares over all, drawn towards some.

    terms: (arrays, target) of each picture. For example arrays 1, 0 and 0, 1 with the targets 2 and 3: factors 2, 3.
    """
    size = len(towards)
    gram, moments, count = np.zeros((size, size)), np.zeros(size), 0
    for arrays, target in terms:
        matrix = np.stack([array.ravel() for array in arrays]).astype(np.float64)
        gram += matrix @ matrix.T
        moments += matrix @ target.ravel().astype(np.float64)
        count += prod(target.shape)
    solved = np.linalg.solve(gram / count + ridge * np.eye(size), moments / count + ridge * towards)
    return tuple(float(factor) for factor in solved)


def placements(schedule: NoiseSchedule, steps: int, start: float | None, model: Model) -> list[Levels]:
    """Those by rule, and such that look several times at about the same noise and once at nearly none."""
    found: dict[Levels, None] = {}
    for rule in PLACEMENTS:
        settings = PlanSettings(steps=steps, placement=rule, start=start)
        found[tuple(row.noise_level for row in make_plan(schedule, settings, rules=model.sampling).rows)] = None
    first = next(iter(found))[0]
    for stride in STRIDES:
        for last in LASTS:
            heads = (first,) if start is not None else (first, AGAIN)
            begin = log_snr_from_noise_level(heads[-1])
            more = [noise_level_from_log_snr(begin + stride * index) for index in range(1, steps - len(heads))]
            levels = (*heads, *more, last)
            if len(levels) == steps and all(low < high for low, high in pairwise(levels)):
                settings = PlanSettings(steps=steps, placement=levels)
                plan = make_plan(schedule, settings, rules=model.sampling)
                found[tuple(row.noise_level for row in plan.rows)] = None
    return list(found)
