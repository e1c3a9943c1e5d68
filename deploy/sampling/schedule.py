"""Noise schedules: the variance added at each training timestep, and everything that follows from it.

A schedule is its betas. With alpha_bar[t] the product of (1 - beta) up to t, the network was trained on
x_t = sqrt(alpha_bar[t])*x0 + sqrt(1 - alpha_bar[t])*noise. In this package a *noise level* is the factor of
the picture, sqrt(alpha_bar): 1 is a clean picture, 0 is pure noise (the name and the sense are IDM's).

Checkpoints hold float32 betas, while their authors computed every other table in float64 before rounding.
`NoiseSchedule.from_betas` therefore looks for a known kind whose float64 table rounds to exactly the stored
values and takes the unrounded ones: every table that follows is then the authors' to the last bit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deploy.bundle.records import ScheduleOfBetas, ScheduleOfKind, ScheduleRecord, json_from_records
from deploy.errors import ConfigError, nearest_name
from deploy.sampling.beta_rules import BETA_RULES, OTHER_NAMES, SCHEDULE_KINDS, BetaRule, Float64Array

MOST_TIMESTEPS = 100_000
"""Of training; published models have 1000 to 4000. A file may say any number, and tables are made of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSchedule:
    """The betas of a diffusion model in float64, and the kind and parameters they come from where known.

    Made by `from_kind`, `from_betas`, `from_record` or `from_dict`. Tables are indexed by the timestep, 0 the cleanest.
    """

    betas: Float64Array
    kind: str | None = None  # None: betas that follow no known rule
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        betas = np.array(self.betas, dtype=np.float64)
        if betas.ndim != 1 or betas.size == 0:
            raise ConfigError(
                f"The noise schedule needs a one-dimensional table of betas, found shape {betas.shape}; "
                "take `betas` from the checkpoint or name a kind and its parameters."
            )
        # The last beta may be 1 ("jsd" ends there): x_T is then pure noise.
        wrong = np.flatnonzero(
            ~((1 - betas < 1) & (betas <= 1)) | ((betas == 1) & (np.arange(betas.size) < betas.size - 1))
        )
        if wrong.size:
            raise ConfigError(
                f"The noise schedule's betas must lie between 0 and 1, but beta {wrong[0]} of "
                f"{betas.size} is {betas[wrong[0]]:g}; check the schedule of the checkpoint or configuration."
            )
        betas.setflags(write=False)
        object.__setattr__(self, "betas", betas)

    @classmethod
    def from_kind(
        cls, kind: str, timesteps: int, start: float | None = None, end: float | None = None
    ) -> "NoiseSchedule":
        """The schedule of a named kind, e.g. ("linear", 2000, 1e-6, 1e-2) for IDM.

        `start` and `end` are the first and last beta. The authors' configuration files always carry both;
        kinds without such a parameter ("const": no start; "jsd" and "cosine": neither) do not look at it.
        """
        if not isinstance(kind, str):
            raise ConfigError(
                f"The noise schedule kind is {_shown(kind)}, expected one of {', '.join(SCHEDULE_KINDS)}."
            )
        name = OTHER_NAMES.get(kind, kind)
        if name not in BETA_RULES:
            nearest = nearest_name(kind, SCHEDULE_KINDS)
            raise ConfigError(
                f"The noise schedule kind {_shown(kind)} is unknown, the nearest is {nearest!r}; "
                f"known are {', '.join(SCHEDULE_KINDS)}."
            )
        rule = BETA_RULES[name]
        problems = _parameter_problems(rule, timesteps, start, end)
        if problems:
            raise ConfigError(f"The noise schedule {name!r} cannot be made: {'; '.join(problems)}.")
        start = float(start) if rule.uses_start and start is not None else None
        end = float(end) if rule.uses_end and end is not None else None
        betas = rule.betas(timesteps, start or 0.0, end or 0.0)
        return cls(betas=betas, kind=name, start=start, end=end)

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "NoiseSchedule":
        """The schedule of stored betas, unrounded where a known kind rounds to exactly these float32 values.

        The result's `kind` is None if no kind fits; then the stored values are used as they are.
        """
        values = np.asarray(betas)
        schedule = cls(betas=values.astype(np.float64))
        if values.dtype != np.float32:
            return schedule
        # The authors wrote short decimals such as 1e-6: the shortest decimal that rounds to the stored value.
        start, end = float(str(values[0])), float(str(values[-1]))
        for kind, rule in BETA_RULES.items():
            if np.array_equal(rule.betas(values.size, start, end).astype(np.float32), values):
                return cls.from_kind(kind, values.size, start, end)
        return schedule

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "NoiseSchedule":
        """The schedule that `as_dict` wrote."""
        keys = ("betas",) if "betas" in record else ("kind", "timesteps", "start", "end")
        for key in record:
            if key not in keys:
                nearest = nearest_name(key, keys)
                raise ConfigError(f"The noise schedule record has an unknown key {key!r}; did you mean {nearest!r}?")
        if "betas" in record:
            return cls(betas=_betas_from_record(record["betas"]))
        missing = [key for key in ("kind", "timesteps") if key not in record]
        if missing:
            raise ConfigError(
                f"The noise schedule record lacks {' and '.join(missing)}; "
                "expected a kind with its timesteps, or betas."
            )
        return cls.from_kind(record["kind"], record["timesteps"], record.get("start"), record.get("end"))

    @classmethod
    def from_record(cls, record: ScheduleRecord) -> "NoiseSchedule":
        """The schedule that a bundle records."""
        if isinstance(record, ScheduleOfBetas):
            return cls(betas=np.array(record.betas))
        return cls.from_kind(record.kind, record.timesteps, record.start, record.end)

    def as_record(self) -> ScheduleRecord:
        """What a bundle records, from which `from_record` makes the same schedule to the last bit."""
        if self.kind is None:
            return ScheduleOfBetas(betas=tuple(float(beta) for beta in self.betas))
        return ScheduleOfKind(kind=self.kind, timesteps=self.timesteps, start=self.start, end=self.end)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON, from which `from_dict` makes the schedule."""
        record: dict[str, Any] = json_from_records(self.as_record())
        return record

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NoiseSchedule):
            return NotImplemented
        return np.array_equal(self.betas, other.betas)

    def __hash__(self) -> int:
        return hash(self.betas.tobytes())

    def __str__(self) -> str:
        ends = " to ".join(f"{value:g}" for value in (self.start, self.end) if value is not None)
        return f"{self.kind or 'explicit'}, {self.timesteps} timesteps" + (f", beta {ends}" if ends else "")

    @property
    def timesteps(self) -> int:
        """The number T of training timesteps."""
        return int(self.betas.size)

    @cached_property
    def alpha_bar(self) -> Float64Array:
        """Share of the picture's variance left at each timestep, shape (T,), falling."""
        return _read_only(np.cumprod(1.0 - self.betas))

    @cached_property
    def alpha_bar_previous(self) -> Float64Array:
        """`alpha_bar` one timestep earlier, 1 for timestep 0; shape (T,)."""
        return _read_only(np.append(1.0, self.alpha_bar[:-1]))

    @cached_property
    def noise_levels(self) -> Float64Array:
        """sqrt(alpha_bar) per timestep, shape (T,), falling: what IDM's network is conditioned on."""
        return _read_only(np.sqrt(self.alpha_bar))

    @cached_property
    def log_snr(self) -> Float64Array:
        """Logarithm of alpha_bar/(1 - alpha_bar) per timestep, shape (T,), falling."""
        with np.errstate(divide="ignore"):  # alpha_bar may end at 0, whose log-SNR is minus infinity
            return _read_only(np.asarray(np.log(self.alpha_bar) - np.log1p(-self.alpha_bar), dtype=np.float64))

    def noise_level(self, timestep: int) -> float:
        """sqrt(alpha_bar) at `timestep`."""
        if not 0 <= timestep < self.timesteps:
            raise IndexError(f"timestep {timestep} is outside the schedule's 0..{self.timesteps - 1}")
        return float(self.noise_levels[timestep])

    def nearest_timestep(self, noise_level: float) -> int:
        """The timestep whose noise level is nearest to `noise_level`, measured in log-SNR.

        Noise levels crowd near 1, where a plain difference would not tell one timestep from the next.
        """
        target = log_snr_from_noise_level(noise_level)
        if target <= self.log_snr[-1]:  # also keeps infinities, whose difference is undefined, out of the search
            return self.timesteps - 1
        if target >= self.log_snr[0]:
            return 0
        return int(np.argmin(np.abs(self.log_snr - target)))

    def training_tables(self) -> dict[str, Float64Array]:
        """The tables that both official training codes store beside the betas, under their names, in float64.

        Rounded to float32 they equal the stored buffers, so a reader can hold a checkpoint's against them.
        """
        bar, previous = self.alpha_bar, self.alpha_bar_previous
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = self.betas * (1.0 - previous) / (1.0 - bar)
            return {
                "betas": self.betas,
                "alphas_cumprod": bar,
                "alphas_cumprod_prev": previous,
                "sqrt_alphas_cumprod": np.sqrt(bar),
                "sqrt_one_minus_alphas_cumprod": np.sqrt(1.0 - bar),
                "log_one_minus_alphas_cumprod": np.log(1.0 - bar),
                "sqrt_recip_alphas_cumprod": np.sqrt(1.0 / bar),
                "sqrt_recipm1_alphas_cumprod": np.sqrt(1.0 / bar - 1.0),
                "posterior_variance": variance,
                # The variance at timestep 0 is 0; 1e-20 keeps its logarithm finite (no noise is added there).
                "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
                "posterior_mean_coef1": self.betas * np.sqrt(previous) / (1.0 - bar),
                "posterior_mean_coef2": (1.0 - previous) * np.sqrt(1.0 - self.betas) / (1.0 - bar),
            }


def log_snr_from_noise_level(noise_level: float) -> float:
    """log(level^2/(1 - level^2)); plus and minus infinity at 1 and 0."""
    if noise_level <= 0:
        return -math.inf
    if noise_level >= 1:
        return math.inf
    return 2 * math.log(noise_level) - math.log1p(-noise_level * noise_level)


def noise_level_from_log_snr(log_snr: float) -> float:
    """The inverse of `log_snr_from_noise_level`: the square root of the logistic function."""
    return math.exp(-0.5 * float(np.logaddexp(0.0, -log_snr)))


def _read_only(table: NDArray[Any]) -> Float64Array:
    table.setflags(write=False)
    return table


def _betas_from_record(listed: object) -> Float64Array:
    """The numbers of a list that a file holds."""
    numbers = isinstance(listed, list | tuple) and all(isinstance(beta, int | float | np.floating) for beta in listed)
    if not numbers or len(listed) > MOST_TIMESTEPS:  # type: ignore[arg-type]
        raise ConfigError(f"The noise schedule's betas are {_shown(listed)}, expected up to {MOST_TIMESTEPS} numbers.")
    try:
        return np.array(listed, dtype=np.float64)
    except OverflowError as error:
        raise ConfigError(
            "The noise schedule's betas must lie between 0 and 1, and one has hundreds of digits."
        ) from error


def _shown(value: object) -> str:
    """The beginning of a value of which nothing is known."""
    try:
        return repr(value)[:100]
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested without end
        return f"a {type(value).__name__} too long to show"


def _parameter_problems(rule: BetaRule, timesteps: object, start: object, end: object) -> list[str]:
    """What is wrong with the parameters of a named kind, one phrase each."""
    problems = []
    whole = isinstance(timesteps, int | np.integer) and not isinstance(timesteps, bool)
    if not whole or not 1 <= timesteps <= MOST_TIMESTEPS:  # type: ignore[operator]
        problems.append(f"the number of timesteps must be from 1 to {MOST_TIMESTEPS}, found {_shown(timesteps)}")
    for name, value, used in (("start", start, rule.uses_start), ("end", end, rule.uses_end)):
        number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
        if used and not (number and 0 < value <= 1):  # type: ignore[operator]
            problems.append(f"beta {name} must be a number above 0 and at most 1, found {_shown(value)}")
    return problems
