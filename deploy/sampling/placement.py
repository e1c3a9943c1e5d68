"""Which noise levels a sampler visits: few points of the training schedule, from noisy to clean.

A placement first chooses *positions* on the axis of timesteps, which need not be integers for a network that is
conditioned on the noise level itself (IDM); a network conditioned on integer timesteps (latent) gets distinct
integers. Each point then is one evaluation of the network. The last step leads from the last point to `end`,
the clean picture, except on the authors' own grids, which stop one step earlier.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from deploy.errors import PlanError, nearest_name
from deploy.sampling.schedule import NoiseSchedule, log_snr_from_noise_level, noise_level_from_log_snr

# Closer to an integer than this, a position is that timestep: positions are quotients of small integers.
_INTEGER_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Point:
    """A noise level: alpha is sqrt(alpha_bar), sigma is sqrt(1 - alpha_bar), `timestep` the nearest integer one."""

    alpha: float
    sigma: float
    timestep: int
    is_timestep: bool  # exactly that timestep's level, rather than between two

    @property
    def log_snr(self) -> float:
        """2 log(alpha/sigma)."""
        return 2 * (math.log(self.alpha) - math.log(self.sigma))


CLEAN = Point(alpha=1.0, sigma=0.0, timestep=-1, is_timestep=False)


@dataclass(frozen=True)
class Placement:
    """The points at which the network is evaluated, noisiest first, and the level that the last step leads to."""

    points: tuple[Point, ...]
    end: Point


def uniform_positions(_schedule: NoiseSchedule, steps: int, first: float) -> list[float]:
    """Equal strides on the axis of timesteps, from `first` down to one stride above clean.

    With 4 steps of 2000 timesteps: 1999, 1499, 999, 499 ("trailing" in Lin et al. 2023, table 2). The first
    point is the noisiest there is, as the state that the sampler starts from requires, and no evaluation is
    spent at timestep 0, where there is next to nothing left to remove.
    """
    return [(first + 1) * (steps - index) / steps - 1 for index in range(steps)]


def quadratic_positions(_schedule: NoiseSchedule, steps: int, first: float) -> list[float]:
    """Strides that shrink linearly towards clean (DDIM, Song et al. 2021, appendix D.2).

    With 4 steps of 2000 timesteps: 1999, 1143.., 588.., 124: the last is where equal strides of the square
    root would be one stride above clean.
    """
    if steps == 1:
        return [first]
    last = max((first + 1) / steps**2 - 1, 0.0)
    return [last + (first - last) * ((steps - 1 - index) / (steps - 1)) ** 2 for index in range(steps)]


def log_snr_positions(schedule: NoiseSchedule, steps: int, first: float) -> list[float]:
    """Equal strides of the log-SNR from `first` to timestep 0 (DPM-Solver, Lu et al. 2022, section 3.4)."""
    if steps == 1:
        return [first]
    highest = _log_snr_at(schedule, first)
    log_snrs = np.linspace(highest, schedule.log_snr[0], steps)
    return [first, *(_position_from_log_snr(schedule, float(value)) for value in log_snrs[1:])]


PLACEMENTS: dict[str, Callable[[NoiseSchedule, int, float], list[float]]] = {
    "uniform": uniform_positions,
    "logsnr": log_snr_positions,
    "quadratic": quadratic_positions,
}


def place_published(schedule: NoiseSchedule, count: int, grid: Callable[[int, int], list[int]]) -> Placement:
    """The authors' own grid of `count` entries, with its missing last step; it has fewer points than `count`."""
    _check_steps(count, schedule.timesteps)
    timesteps = grid(schedule.timesteps, count)
    if len(timesteps) < 2:
        raise PlanError(f"The published grid of {count} steps has no step to make; choose at least 2.")
    points = [point_from_timestep(schedule, timestep) for timestep in timesteps]
    return Placement(tuple(points[:-1]), points[-1])


def place(
    schedule: NoiseSchedule,
    *,
    placement: str,
    steps: int,
    start: float | None = None,
    integer_timesteps: bool = False,
) -> Placement:
    """`steps` points chosen by the rule named `placement`, ending at a clean picture.

    `start` is the noise level to begin at, between that of the last timestep and 1; None is the last timestep.
    With `integer_timesteps` the first point is the nearest timestep's level: read it from the result.
    """
    if placement not in PLACEMENTS:
        nearest = nearest_name(placement, PLACEMENTS)
        raise PlanError(
            f"The placement {placement!r} is unknown, the nearest is {nearest!r}; known are {', '.join(PLACEMENTS)}."
        )
    first = _first_position(schedule, start, integer_timesteps)
    _check_steps(steps, math.floor(first) + 1)
    positions = PLACEMENTS[placement](schedule, steps, first)
    if integer_timesteps:
        return Placement(tuple(point_from_timestep(schedule, t) for t in _distinct_integers(positions)), CLEAN)
    points = [_point_from_position(schedule, position) for position in positions]
    if start is not None:
        points[0] = point_from_noise_level(schedule, start)  # to the last bit what was asked for
    return Placement(tuple(points), CLEAN)


def place_explicitly(
    schedule: NoiseSchedule, noise_levels: tuple[float, ...], integer_timesteps: bool = False
) -> Placement:
    """The given noise levels, noisiest first, ending at a clean picture; with `integer_timesteps` the nearest ones."""
    lowest = schedule.noise_level(_last_usable_timestep(schedule))
    wrong = [level for level in noise_levels if not (lowest <= level < 1)]
    if not noise_levels or wrong:
        problem = "none" if not noise_levels else f"{wrong[0]:g}"
        raise PlanError(
            f"A listed placement needs noise levels from {lowest:.4g} (the noisiest the network was trained on) "
            f"to below 1 (clean), found {problem}; change the list."
        )
    points = [point_from_noise_level(schedule, level) for level in noise_levels]
    if integer_timesteps:
        points = [point_from_timestep(schedule, point.timestep) for point in points]
    for before, after in pairwise(points):
        if before.alpha >= after.alpha:
            raise PlanError(
                f"The listed noise levels must rise from noisy to clean, but {before.alpha:.4g} is followed by "
                f"{after.alpha:.4g}; sort them and leave out what falls on the same timestep."
            )
    return Placement(tuple(points), CLEAN)


def point_from_timestep(schedule: NoiseSchedule, timestep: int) -> Point:
    """The point of an integer timestep."""
    alpha = schedule.noise_level(timestep)
    sigma = math.sqrt(1.0 - float(schedule.alpha_bar[timestep]))
    return Point(alpha=alpha, sigma=sigma, timestep=timestep, is_timestep=True)


def point_from_noise_level(schedule: NoiseSchedule, noise_level: float) -> Point:
    """The point of any noise level between 0 and 1; a timestep's own level gives exactly that timestep's point."""
    timestep = schedule.nearest_timestep(noise_level)
    if schedule.noise_level(timestep) == noise_level:
        return point_from_timestep(schedule, timestep)
    sigma = math.sqrt((1.0 - noise_level) * (1.0 + noise_level))
    return Point(alpha=noise_level, sigma=sigma, timestep=timestep, is_timestep=False)


def _check_steps(steps: int, available: int) -> None:
    if steps < 1:
        raise PlanError(f"The number of steps must be at least 1, found {steps}.")
    if steps > available:
        raise PlanError(
            f"{steps} steps were asked for, but from the chosen start the schedule has only {available} timesteps; "
            f"choose at most {available} steps."
        )


def _first_position(schedule: NoiseSchedule, start: float | None, integer_timesteps: bool) -> float:
    """Where on the axis of timesteps the sampler begins."""
    last = _last_usable_timestep(schedule)
    if start is None:
        if last < schedule.timesteps - 1:
            raise PlanError(
                "The schedule ends at noise level 0, where nothing can be estimated from the predicted noise; "
                f"begin at noise level {schedule.noise_level(last):.4g} or above with `start`."
            )
        return float(last)
    lowest, highest = schedule.noise_level(last), schedule.noise_level(0)
    if not lowest <= start <= highest:
        raise PlanError(
            f"The start must be a noise level from {lowest:.4g} (nearly pure noise) to {highest:.7g} (nearly clean), "
            f"found {start!r}."
        )
    if integer_timesteps:
        return float(schedule.nearest_timestep(start))
    return _position_from_log_snr(schedule, log_snr_from_noise_level(start))


def _last_usable_timestep(schedule: NoiseSchedule) -> int:
    """The noisiest timestep that has any picture left."""
    return int(np.count_nonzero(schedule.noise_levels > 0)) - 1


def _distinct_integers(positions: list[float]) -> list[int]:
    """The positions rounded, and moved apart where two fall on the same timestep; descending, the first stays."""
    rounded: list[int] = []
    for index, position in enumerate(positions):
        still_to_come = len(positions) - 1 - index
        timestep = max(math.floor(position + 0.5), still_to_come)
        rounded.append(min(timestep, rounded[-1] - 1) if rounded else timestep)
    return rounded


def _point_from_position(schedule: NoiseSchedule, position: float) -> Point:
    nearest = round(position)
    if abs(position - nearest) < _INTEGER_TOLERANCE:
        return point_from_timestep(schedule, nearest)
    log_snr = _log_snr_at(schedule, position)
    alpha, sigma = noise_level_from_log_snr(log_snr), noise_level_from_log_snr(-log_snr)
    return Point(alpha=alpha, sigma=sigma, timestep=schedule.nearest_timestep(alpha), is_timestep=False)


def _log_snr_at(schedule: NoiseSchedule, position: float) -> float:
    """The log-SNR between timesteps, interpolated linearly."""
    return float(np.interp(position, np.arange(schedule.timesteps), schedule.log_snr))


def _position_from_log_snr(schedule: NoiseSchedule, log_snr: float) -> float:
    """The inverse of `_log_snr_at`."""
    return float(np.interp(log_snr, schedule.log_snr[::-1], np.arange(schedule.timesteps)[::-1]))
