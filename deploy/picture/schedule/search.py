"""The search for the noise levels at which few steps serve a checkpoint best, beside a run of many steps.

A dense run of each seeded sample visits many noise levels and keeps, at each, the state x and the estimate x0 of the
picture. From any visited level i the first-order step to any later level j is then known without another evaluation,

    x_ij = alpha_j x0_i + sigma_j (x_i - alpha_i x0_i) / sigma_i,

and so is how far it ends from where the dense run was at j. The path of S steps with the least sum of these errors is
found exactly by dynamic programming. How much an error at level j still weighs at the end is not known, so paths are
made for several weights alpha_j^q; each, and each rule of `deploy.sampling.placement`, is then really run with the
equation that will be used, placements between the best few are tried, and the one that ends nearest to the dense run
wins. So a searched placement is never worse, on the samples, than a rule by name. (Dynamic programming over a grid:
Watson et al. 2021, "Learning to efficiently sample from diffusion probabilistic models", with measured errors in
place of their likelihood terms.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.errors import PlanError
from deploy.families.contract import Subject
from deploy.families.model import Model
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.loop import Array, run_plan, starting_state
from deploy.sampling.noise import START_NOISE
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.placement import PLACEMENTS
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule, log_snr_from_noise_level, noise_level_from_log_snr
from engines.arrays import Float32

REFERENCE_EVALUATIONS = 80
"""Steps of the dense run, half of them placed uniformly in time and half in log-SNR."""

REFERENCE_EQUATION = "dpmpp-2m"
WEIGHT_EXPONENTS = (0.0, 0.5, 1.0, 2.0)

BLEND_ROUNDS = 4
RUNNERS_UP = 2
BLEND_SHARE = 0.4

Levels = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture to be made: its subject and the random numbers of its start."""

    subject: Subject
    noise: NoiseSource


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The way to sample that a placement is searched for, apart from the number of steps."""

    equation: str
    start: float | None = None
    consistency: float = 0.0

    def __post_init__(self) -> None:
        equation = EQUATIONS.get(self.equation)
        if equation is not None and equation.adds_noise:
            raise PlanError(
                f"A placement can be searched for equations without fresh noise only, {self.equation} adds some; choose"
                f" one of {', '.join(name for name, equation in EQUATIONS.items() if not equation.adds_noise)}."
            )


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best placement of a number of steps. Distances are root mean squares to the dense run's end."""

    noise_levels: Levels
    distance: float
    origin: str  # "search", or the rule that could not be beaten
    rules: dict[str, float]  # rule -> its distance


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A dense run of one sample: states and estimates at its levels, and where it ended."""

    states: list[Float32]
    estimates: list[Float32]
    end: Float32


class PlacementSearch:
    """Searches placements on a few samples; the dense runs are made once, when first needed."""

    def __init__(
        self,
        model: Model,
        schedule: NoiseSchedule,
        samples: Sequence[Sample],
        setting: Setting,
        *,
        reference_evaluations: int = REFERENCE_EVALUATIONS,
        after_evaluation: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._samples = samples
        self._setting = setting
        self._after_evaluation = after_evaluation
        self._conditions = [sample.subject.condition(_whole(sample.subject)) for sample in samples]
        self._dense = self._dense_plan(reference_evaluations)
        self._trajectories: list[Trajectory] | None = None

    @property
    def trajectories(self) -> list[Trajectory]:
        """The dense run of each sample."""
        if self._trajectories is None:
            self._trajectories = [self._recorded(index) for index in range(len(self._samples))]
        return self._trajectories

    def evaluations(self, steps: int) -> int:
        """The most evaluations that `find` makes for a number of steps, apart from those of the dense runs."""
        return len(self._samples) * steps * (len(WEIGHT_EXPONENTS) + len(PLACEMENTS) + BLEND_ROUNDS * RUNNERS_UP)

    @property
    def dense_evaluations(self) -> int:
        """How many evaluations the dense runs take."""
        return len(self._samples) * len(self._dense)

    def find(self, steps: int) -> Found:
        """The best placement of `steps` evaluations."""
        if steps >= len(self._dense):
            raise PlanError(f"A placement is searched for fewer steps than the {len(self._dense)} of the dense run.")
        rules = {name: self._levels_of_rule(name, steps) for name in PLACEMENTS}
        distances: dict[Levels, float] = {}
        for levels in (*rules.values(), *self._paths(steps)):
            if levels not in distances:
                distances[levels] = self.distance(levels)
        self._try_blends(distances)
        best = min(distances, key=lambda levels: distances[levels])
        winners = [name for name, levels in rules.items() if levels == best]
        return Found(
            noise_levels=best,
            distance=distances[best],
            origin=winners[0] if winners else "search",
            rules={name: distances[levels] for name, levels in rules.items()},
        )

    def _try_blends(self, distances: dict[Levels, float]) -> None:
        """Placements between the best one and its runners-up are tried as well, while that gets anywhere."""
        for _ in range(BLEND_ROUNDS):
            ranked = sorted(distances, key=lambda levels: distances[levels])
            best = ranked[0]
            for other in ranked[1 : 1 + RUNNERS_UP]:
                blended = self._on_timesteps(blend(best, other, BLEND_SHARE))
                if blended is not None and blended not in distances:
                    distances[blended] = self.distance(blended)
            if min(distances.values()) == distances[best]:
                return

    def _on_timesteps(self, levels: Levels) -> Levels | None:
        """The levels that a plan really makes of these; None if two fall on the same timestep."""
        settings = PlanSettings(equation=self._setting.equation, steps=len(levels), placement=levels)
        try:
            plan = make_plan(self._schedule, settings, rules=self._model.sampling)
        except PlanError:
            return None
        return tuple(row.noise_level for row in plan.rows)

    def distance(self, levels: Levels) -> float:
        """How far runs with these noise levels end from the dense ones: root mean square over all samples."""
        plan = make_plan(
            self._schedule,
            PlanSettings(equation=self._setting.equation, steps=len(levels), placement=levels),
            rules=self._model.sampling,
        )
        squares = [
            float(np.square(self._run(index, plan) - trajectory.end, dtype=np.float64).mean())
            for index, trajectory in enumerate(self.trajectories)
        ]
        return float(np.sqrt(np.mean(squares)))

    def _dense_plan(self, evaluations: int) -> Plan:
        levels = {
            row.noise_level
            for placement in ("uniform", "logsnr")
            for row in self._plan_of_rule(placement, evaluations // 2).rows
        }
        distinct = tuple(sorted(levels))
        settings = PlanSettings(equation=REFERENCE_EQUATION, steps=len(distinct), placement=distinct)
        return make_plan(self._schedule, settings, rules=self._model.sampling)

    def _plan_of_rule(self, placement: str, steps: int) -> Plan:
        settings = PlanSettings(steps=steps, placement=placement, start=self._setting.start)
        return make_plan(self._schedule, settings, rules=self._model.sampling)

    def _levels_of_rule(self, placement: str, steps: int) -> Levels:
        return tuple(row.noise_level for row in self._plan_of_rule(placement, steps).rows)

    def _recorded(self, index: int) -> Trajectory:
        states: list[Float32] = []
        estimates: list[Float32] = []
        end = self._run(index, self._dense, states=states, estimates=estimates)
        return Trajectory(states=states, estimates=estimates, end=end)

    def _run(
        self,
        index: int,
        plan: Plan,
        *,
        states: list[Float32] | None = None,
        estimates: list[Float32] | None = None,
    ) -> Float32:
        """The end of one sample's run; states and estimates of every step are appended where asked for."""
        sample, condition = self._samples[index], self._conditions[index]
        plan = replace(plan, rows=self._model.rows(plan.rows))
        shape = sample.subject.state_shape

        def predict(x: Array, row: PlanRow, _step: int) -> Array:
            if states is not None:
                states.append(x.astype(np.float32))  # a copy
            self._after_evaluation()
            return self._model.predict(x.astype(np.float32, copy=False), condition, row)

        def adjust(estimate: Array, _: PlanRow, _step: int) -> None:
            picture: Float32 = estimate.astype(np.float32, copy=False)  # the same array: the state is float32
            if self._setting.consistency:
                sample.subject.make_consistent(picture, self._setting.consistency, lambda: None)
            if estimates is not None:
                estimates.append(picture.copy())

        whole = slice(0, shape[2])
        noise = sample.noise.rows(shape, START_NOISE, whole)
        guess = sample.subject.first_guess(whole) if self._setting.start is not None else None
        state = starting_state(plan, noise, guess)
        end: Float32 = run_plan(plan, predict, state, _no_noise, adjust_estimate=adjust).astype(np.float32)
        return end

    def _paths(self, steps: int) -> list[Levels]:
        """The cheapest path of `steps` evaluations through the dense run, for each weight."""
        errors = self._local_errors()
        alphas = np.array([row.noise_level for row in self._dense.rows] + [1.0])
        paths = [cheapest_path(errors * alphas[None] ** exponent, steps) for exponent in WEIGHT_EXPONENTS]
        return [tuple(float(alphas[index]) for index in path) for path in paths]

    def _local_errors(self) -> NDArray[np.float64]:
        """[i, j]: root mean square between the first-order step from level i to j and the dense run at j > i.

        The last column is the clean end. What does not lead forward is infinite.
        """
        rows = self._dense.rows
        count = len(rows)
        total = np.zeros((count, count + 1))
        for trajectory in self.trajectories:
            flat = [state.ravel() for state in (*trajectory.states, trajectory.end)]
            for i, row in enumerate(rows):
                estimate = trajectory.estimates[i].ravel()
                noise = (flat[i] - np.float32(row.noise_level) * estimate) / np.float32(row.sigma)
                for j in range(i + 1, count + 1):
                    alpha, sigma = (rows[j].noise_level, rows[j].sigma) if j < count else (1.0, 0.0)
                    step = np.float32(alpha) * estimate + np.float32(sigma) * noise - flat[j]
                    total[i, j] += float(np.dot(step, step)) / step.size
        errors: NDArray[np.float64] = np.sqrt(total / len(self.trajectories))
        errors[np.tril_indices(count, k=0, m=count + 1)] = np.inf
        return errors


def cheapest_path(costs: NDArray[np.float64], steps: int) -> list[int]:
    """The `steps` points, from 0, whose strides to one another and on to the last column cost least in sum.

    `costs[i, j]` is the cost of a stride from i to j > i, of shape (n, n + 1). Exact, by dynamic programming.
    """
    count = costs.shape[0]
    best = costs[:, count].copy()  # one stride left: straight to the end
    nexts: list[NDArray[np.int64]] = []
    for _ in range(steps - 1):
        through = costs[:, :count] + best[None]
        nexts.append(through.argmin(axis=1))
        best = through.min(axis=1)
    path = [0]
    for choice in reversed(nexts):
        path.append(int(choice[path[-1]]))
    return path


def blend(best: Levels, other: Levels, share: float) -> Levels:
    """Levels `share` of the way from `best` to `other`, point by point on the axis of the log-SNR."""
    mixed = []
    for a, b in zip(best, other, strict=True):
        log_snr = (1 - share) * log_snr_from_noise_level(a) + share * log_snr_from_noise_level(b)
        mixed.append(a if a == b else noise_level_from_log_snr(log_snr))
    return tuple(mixed)


def _whole(subject: Subject) -> Window:
    return Window.whole(Size(*subject.state_shape[2:]))


def _no_noise(step_index: int) -> Array:
    raise AssertionError(f"step {step_index} of an equation without noise asked for some")
