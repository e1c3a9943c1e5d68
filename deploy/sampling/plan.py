"""The plan of a sampler: one row per evaluation of the network, made once in float64 from schedule and settings.

A row carries everything that the loop needs for its step: the noise level and timestep that condition the
network, the factors that turn the predicted noise into an estimate of the picture, the coefficients of the
update and whether the estimate is clipped. An engine adds what its graphs are fed at that level, its int8 range and
the correction that int8 needs there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.bundle.fitted import FittedStep
from deploy.errors import PlanError, nearest_name
from deploy.sampling.equations import EQUATIONS, Coefficients, Step
from deploy.sampling.placement import PLACEMENTS, Placement, Point, place, place_explicitly, place_published
from deploy.sampling.schedule import NoiseSchedule, log_snr_from_noise_level
from deploy.sampling.turns import AS_IT_IS, Turn


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How to sample; the default is the published equation with few steps."""

    equation: str = "ddim"
    steps: int = 20
    placement: str | tuple[float, ...] = "uniform"  # a rule by name, or the noise levels themselves, noisiest first
    start: float | None = None  # noise level to begin at, from the noised upsampled input; None: pure noise
    eta: float = 0.0  # share of the ancestral noise in DDIM
    clip: bool | None = None  # limit the estimate to [-1, 1]; None: as suits the family
    published: bool = False  # the authors' own grid, without its last step and without clipping in DDIM
    fitted: tuple[FittedStep, ...] = ()  # the rows of a fitted equation, whose noise levels are the placement

    def __post_init__(self) -> None:
        problems = [*_equation_problems(self), *_placement_problems(self)]
        if self.published and (self.start is not None or self.placement != "uniform"):
            problems.append("`published` has its own grid and takes neither a start nor a placement")
        if problems:
            raise PlanError(f"The sampler cannot be planned: {'; '.join(problems)}.")

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready record of every setting."""
        record = asdict(self) | {"fitted": msgspec.to_builtins(self.fitted)}
        if not self.fitted:
            del record["fitted"]
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "PlanSettings":
        """The settings that `as_dict` wrote; what is left out has its default."""
        names = [field.name for field in fields(cls)]
        for key in record:
            if key not in names:
                nearest = nearest_name(key, names)
                raise PlanError(f"The sampler settings have an unknown key {key!r}; did you mean {nearest!r}?")
        values = dict(record)
        if isinstance(values.get("placement"), list):
            values["placement"] = tuple(values["placement"])
        values["fitted"] = msgspec.convert(values.get("fitted", ()), tuple[FittedStep, ...])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class SamplingRules:
    """What a family of networks requires of a plan."""

    integer_timesteps: bool  # conditioned on timesteps, rather than on the noise level itself
    clip: bool  # x0 is a picture in [-1, 1], rather than a latent without limits
    published_grid: Callable[[int, int], list[int]] | None
    """(timesteps, count) -> those of the authors' DDIM sampler, descending; None: they have none."""


Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """What takes the mean error of a network's prediction back: a gain and an offset, each (1, channels, 1, 1)."""

    gain: Array
    offset: Array

    def of(self, noise: NDArray[np.float32]) -> NDArray[np.float32]:
        """The predicted noise, corrected; changed in place."""
        noise *= self.gain
        noise += self.offset
        return noise


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One evaluation and its update: x_next = x*state + x0[0]*estimate + x0[1]*previous estimate + ... + noise*normal.

    eps: factors of the noise of earlier steps, newest first, each as (state - noise_level*estimate)/sigma of its step.

    The estimate of the picture is (state - sigma*predicted noise)/noise_level, limited to [-1, 1] if `clip`.
    """

    noise_level: float  # sqrt(alpha_bar) of the state before the step: IDM's network is conditioned on this
    sigma: float  # sqrt(1 - alpha_bar) of the same
    timestep: int  # the nearest timestep of the training schedule: the latent network is conditioned on this
    x: float
    x0: tuple[float, ...]
    noise: float
    clip: bool
    eps: tuple[float, ...] = ()
    turn: Turn = AS_IT_IS  # how the network is shown the picture
    range_index: int = 0  # of the engine in int8 that serves this noise level, where there is one per range
    correction: Correction | None = field(default=None, compare=False)  # of the predicted noise, in int8
    feeds: Mapping[str, Array] = field(default_factory=dict, compare=False, repr=False)
    """What the network is fed besides state and condition, by the names of its inputs."""

    @classmethod
    def evaluation(cls, noise_level: float, timestep: int = 0) -> "PlanRow":
        """An evaluation at a noise level that no step follows: the estimate is all that is left."""
        sigma = math.sqrt(1.0 - noise_level**2)
        return cls(noise_level=noise_level, sigma=sigma, timestep=timestep, x=0.0, x0=(1.0,), noise=0.0, clip=False)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The rows in the order in which they run, the noise level that the last one leads to, and where they come from."""

    rows: tuple[PlanRow, ...]
    end_noise_level: float
    rules: SamplingRules
    settings: PlanSettings

    def __post_init__(self) -> None:
        if not self.rows:
            raise PlanError("A plan needs at least one row.")
        levels = [*(row.noise_level for row in self.rows), self.end_noise_level]
        for index, (before, after) in enumerate(pairwise(levels)):
            equation = EQUATIONS.get(self.settings.equation)  # None: fitted
            again = before == after and equation is not None and equation.corrects_start
            if not (0 < before < after <= 1 or again):
                raise PlanError(f"Row {index} of the plan leads from noise level {before:g} to {after:g}, not upwards.")
        for index, row in enumerate(self.rows):
            if not all(math.isfinite(value) for value in (row.x, *row.x0, *row.eps, row.noise)):
                raise PlanError(f"Row {index} of the plan has a coefficient that is not a number: {row}.")
            if not 1 <= len(row.x0) <= index + 1:
                raise PlanError(f"Row {index} of the plan uses {len(row.x0)} estimates, but {index + 1} exist by then.")
            if len(row.eps) > index:
                raise PlanError(f"Row {index} of the plan uses the noise of {len(row.eps)} earlier steps, not {index}.")
        if self.history > 1 and self.earlier_noises:
            raise PlanError("A plan looks back at estimates or at noise, not at both.")

    def __len__(self) -> int:
        """The number of evaluations of the network."""
        return len(self.rows)

    @property
    def history(self) -> int:
        """How many estimates of the picture, the newest included, the loop must keep."""
        return max(len(row.x0) for row in self.rows)

    @property
    def turns(self) -> bool:
        """Whether some step shows the network the picture turned."""
        return any(row.turn != AS_IT_IS for row in self.rows)

    @property
    def earlier_noises(self) -> int:
        """Of how many earlier steps the loop must keep the noise."""
        return max(len(row.eps) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class MeasuredNoise:
    """The mean square of the noise that a network predicts, per number, at some noise levels, which rise."""

    noise_levels: tuple[float, ...]
    mean_squares: tuple[float, ...]

    def __post_init__(self) -> None:
        levels, squares = self.noise_levels, self.mean_squares
        rising = all(before < after for before, after in pairwise(levels))
        sane = all(0 < level < 1 for level in levels) and all(0 <= square < math.inf for square in squares)
        if not (levels and len(levels) == len(squares) and rising and sane):
            raise PlanError(
                f"The measured noise needs rising levels between 0 and 1 with a mean square each, found {len(levels)} "
                f"levels and {len(squares)} squares; measure again with `idm-deploy schedule --equation analytic-dpm`."
            )

    def at(self, point: Point) -> float:
        """Between the levels, linear in the log-SNR."""
        known = [log_snr_from_noise_level(level) for level in self.noise_levels]
        return float(np.interp(point.log_snr, known, self.mean_squares))


def make_plan(
    schedule: NoiseSchedule,
    settings: PlanSettings | None = None,
    *,
    rules: SamplingRules,
    measured: MeasuredNoise | None = None,
) -> Plan:
    """The plan for a network that was trained on `schedule`, by the rules of its family.

    measured: of this network, for equations that rest on it.
    """
    settings = settings or PlanSettings()
    if settings.fitted:
        return _fitted_plan(schedule, settings, rules)
    equation = EQUATIONS[settings.equation]
    corrects = equation.corrects_start and isinstance(settings.placement, str) and settings.steps > 2
    placed = _placement(schedule, replace(settings, steps=settings.steps - 1) if corrects else settings, rules)
    clip = settings.clip
    if clip is None:
        clip = rules.clip and not (settings.published and settings.equation == "ddim")
    points = placed.points[:1] + placed.points[1:2] + placed.points[1:] if corrects else placed.points
    levels = (*points, placed.end)
    rows = []
    for index, point in enumerate(points):
        step = Step(
            levels=levels[: index + 1],
            next=levels[index + 1],
            steps_after=len(points) - 1 - index,
            eta=settings.eta,
            beta=_beta(schedule, point, levels[index + 1]),
            mean_square=None if measured is None else measured.at(point),
        )
        rows.append(_row(point, equation.coefficients(step), clip))
    return Plan(rows=tuple(rows), end_noise_level=placed.end.alpha, rules=rules, settings=settings)


def _row(point: Point, factors: Coefficients, clip: bool) -> PlanRow:
    return PlanRow(
        noise_level=point.alpha,
        sigma=point.sigma,
        timestep=point.timestep,
        x=factors.x,
        x0=factors.x0,
        noise=factors.noise,
        clip=clip,
        eps=factors.eps,
    )


def _fitted_plan(schedule: NoiseSchedule, settings: PlanSettings, rules: SamplingRules) -> Plan:
    placed = _placement(schedule, settings, rules)
    clip = rules.clip if settings.clip is None else settings.clip
    rows = [
        replace(_row(point, Coefficients(x=step.x, x0=step.x0, noise=step.noise), clip), turn=step.turn)
        for point, step in zip(placed.points, settings.fitted, strict=True)
    ]
    return Plan(rows=tuple(rows), end_noise_level=placed.end.alpha, rules=rules, settings=settings)


def _placement(schedule: NoiseSchedule, settings: PlanSettings, rules: SamplingRules) -> Placement:
    if isinstance(settings.placement, tuple):
        return place_explicitly(schedule, settings.placement, rules.integer_timesteps)
    if settings.published and settings.equation == "ddim":
        if rules.published_grid is None:
            raise PlanError(
                "The authors of this network sample by the ancestral equation alone: ask for `ddpm`, or leave out "
                "`published`."
            )
        return place_published(schedule, settings.steps, rules.published_grid)
    if settings.published and settings.steps != schedule.timesteps:
        raise PlanError(
            f"The published ancestral sampler makes all {schedule.timesteps} steps of the schedule, "
            f"{settings.steps} were asked for; ask for {schedule.timesteps}, or leave out `published`."
        )
    return place(
        schedule,
        placement=settings.placement,
        steps=settings.steps,
        start=settings.start,
        integer_timesteps=rules.integer_timesteps,
    )


def _beta(schedule: NoiseSchedule, now: Point, after: Point) -> float:
    """1 - alpha^2/alpha_next^2; between neighbouring timesteps the schedule's own beta, free of cancellation."""
    if now.is_timestep and after.timestep == now.timestep - 1 and (after.is_timestep or after.alpha == 1.0):
        return float(schedule.betas[now.timestep])
    return 1.0 - (now.alpha / after.alpha) ** 2


def _equation_problems(settings: PlanSettings) -> list[str]:
    """What is wrong with the equation and its own options, one phrase each."""
    problems = []
    equation = EQUATIONS.get(settings.equation)
    if settings.fitted:
        if tuple(step.noise_level for step in settings.fitted) != settings.placement:
            problems.append("the placement of a fitted equation is its noise levels")
    elif equation is None:
        nearest = nearest_name(settings.equation, EQUATIONS)
        problems.append(
            f"the equation {settings.equation!r} is unknown, the nearest is {nearest!r} (known: {', '.join(EQUATIONS)})"
        )
    if not _is_number(settings.eta) or not 0 <= settings.eta <= 1:
        problems.append(f"eta must be from 0 to 1, found {settings.eta!r}")
    elif settings.eta and equation and not equation.uses_eta:
        problems.append(f"the equation {settings.equation!r} has no eta, found {settings.eta:g}")
    if settings.published and equation and not equation.has_published_grid:
        problems.append(f"the equation {settings.equation!r} has no published form")
    if settings.clip not in (None, True, False):
        problems.append(f"clip must be true, false or left out, found {settings.clip!r}")
    return problems


def _placement_problems(settings: PlanSettings) -> list[str]:
    """What is wrong with steps, placement and start, one phrase each."""
    problems = []
    steps, start, placement = settings.steps, settings.start, settings.placement
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        problems.append(f"the number of steps must be a positive integer, found {steps!r}")
    if start is not None and not (_is_number(start) and 0 < start < 1):
        problems.append(f"start must be a noise level between 0 (pure noise) and 1 (clean), found {start!r}")
    if isinstance(placement, tuple):
        if not all(_is_number(level) for level in placement):
            problems.append(f"the listed noise levels must be numbers, found {placement!r}")
        if len(placement) != steps:
            problems.append(f"{len(placement)} noise levels are listed for {steps} steps")
        if start is not None:
            problems.append("a list of noise levels begins at its first and takes no start")
    elif placement not in PLACEMENTS:
        nearest = nearest_name(placement, PLACEMENTS)
        problems.append(
            f"the placement {placement!r} is unknown, the nearest is {nearest!r} (known: {', '.join(PLACEMENTS)})"
        )
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
