"""From a histogram to a scale: how far to clip so that rounding and clipping together cost least.

    choose_quantizer(density_of(histogram), Asymmetric(), Mse())

A method is one of the frozen choices below. The measure behind all of them is the mean squared error

    E[(x - q(x))²] = sum over codes k of the integral of (x - scale·k)² over the values that get code k

which holds rounding and clipping alike and is evaluated in closed form on the density (`window_errors`).

Example: all mass evenly on [0, 1), scale 0.5, codes -1..1. Values below 0.25 get code 0 and cost the integral of x²
from 0 to 0.25, 0.25³/3 = 0.00521; the rest gets code 1, value 0.5: 2·0.25³/3 = 0.01042 for those up to 0.75 and
(0.5³ - 0.25³)/3 = 0.03646 for those clipped. Together 0.05208.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.choose.density import EDGES, Density, mixture_of
from calibration.choose.quantizer import Form, Quantizer
from calibration.errors import ChoiceError, StatisticsError
from engines.arrays import Float64


@dataclass(frozen=True, kw_only=True)
class MinMax:
    """Clip nothing: the scale follows the largest value ever seen."""


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Clip all but `percent` of the values: of the absolute values if symmetric, else half of the rest at each end."""

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50 <= self.percent <= 100:
            raise ChoiceError(f"clipping by percentile: {self.percent} was asked for; choose from 50 to 100.")


@dataclass(frozen=True, kw_only=True)
class Mse:
    """The least mean squared error of all scales 2^(i/fineness), i integer, and all zero points.

    The search is exhaustive, so the optimum on this grid is certain. Scales reach from the one that clips nothing
    down to its 2^-octaves; neighbours differ by 4.4 % at the default fineness, which leaves at most 2.2 % to the
    unrestricted best and in the error a few parts in a thousand, since it is flat there.
    """

    fineness: int = 16
    octaves: int = 5

    def __post_init__(self) -> None:
        if self.fineness < 1 or self.octaves < 1:
            raise ChoiceError(
                f"clipping by mean squared error: fineness {self.fineness} and {self.octaves} octaves were asked for;"
                " both must be at least 1."
            )


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """The clipping bound T whose codes keep most of the distribution's information (least Kullback-Leibler divergence).

    For each of `bounds` values of T, the distribution with its tails moved to the ends of [-T, T] is compared with
    the one that remains when all values of a code are taken as alike (Migacz 2017, "8-bit inference with TensorRT").
    """

    bounds: int = 96

    def __post_init__(self) -> None:
        if self.bounds < 1:
            raise ChoiceError(f"clipping by entropy: {self.bounds} bounds were asked for; at least 1 is needed.")


Method = MinMax | Percentile | Mse | Entropy


def choose_quantizer(density: Density, form: Form, method: Method) -> Quantizer:
    """The quantizer of this form that the method takes for values of this density."""
    match method:
        case MinMax():
            return form.covering(density.minimum, density.maximum)
        case Percentile():
            return form.covering(*_percentile_bounds(density, form, method.percent / 100))
        case Entropy():
            return _least_divergence(density, form, method.bounds)
        case Mse():
            return least_error([density], form, method)


def least_error(
    densities: list[Density], form: Form, method: Mse, weights: list[float] | Float64 | None = None
) -> Quantizer:
    """The quantizer whose weighted sum of errors over several densities is least on the method's grid."""
    scales = scale_grid(densities, form, method)
    errors = np.zeros((scales.size, form.lowest_codes.size))
    for density, weight in zip(densities, np.ones(len(densities)) if weights is None else weights, strict=True):
        errors += weight * window_errors(density, scales, form)
    return quantizer_of_errors(errors, scales, densities, form)


def quantizer_of_errors(errors: Float64, scales: Float64, densities: Sequence[Density], form: Form) -> Quantizer:
    """The quantizer of least error, from the summed errors of densities under every scale with every window."""
    if all(density.minimum == density.maximum == 0 for density in densities):
        return form.covering(0.0, 0.0)  # exact with every scale; the widest window clips least of what may come
    allowed = np.where(allowed_windows(densities, form), errors, np.inf)
    row, window = np.unravel_index(np.argmin(allowed), errors.shape)
    lowest = int(form.lowest_codes[window])
    return Quantizer(scale=float(scales[row]), lowest=lowest, highest=lowest + form.levels - 1)


def allowed_windows(densities: Sequence[Density], form: Form) -> NDArray[np.bool_]:
    """Which of the form's windows may be chosen: those without codes on a side of 0 where no value was ever seen.

    Such codes cost nothing where a larger scale clips nothing anyway, and would be a choice among equals: after ReLU
    -10..245 and 0..255 err alike. What relies on codes that begin at 0 (a chain of layers) needs the second.
    """
    lowest = form.lowest_codes
    sides: tuple[tuple[bool, NDArray[np.bool_]], ...] = (
        (all(density.minimum >= 0 for density in densities), lowest == 0),
        (all(density.maximum <= 0 for density in densities), lowest == 1 - form.levels),
    )
    for one_sided, windows in sides:
        if one_sided and windows.any():  # a symmetric form has but one window
            return windows
    return np.ones(lowest.shape, dtype=np.bool_)


def scale_grid(densities: list[Density], form: Form, method: Mse) -> Float64:
    """The scales to try: all 2^(i/fineness) from one that clips no density to 2^-octaves of the smallest such scale.

    The exponents i are integers, so grids made for different densities are cut from the same one.
    """
    if not densities:
        raise StatisticsError("choosing a scale: no density was given; at least one is needed.")
    covering = [math.log2(form.covering(d.minimum, d.maximum).scale) for d in densities]
    first = math.floor((min(covering) - method.octaves) * method.fineness)
    last = math.ceil(max(covering) * method.fineness)
    return np.exp2(np.arange(first, last + 1) / method.fineness)


def expected_error(density: Density, quantizer: Quantizer) -> float:
    """The mean of (x - q(x))² over values of this density, times its mass."""
    lowest = np.array([quantizer.lowest])
    levels = quantizer.highest - quantizer.lowest + 1
    return float(_errors_of_windows(density, np.array([quantizer.scale]), lowest, levels)[0, 0])


def window_errors(density: Density, scales: Float64, form: Form) -> Float64:
    """The error of every scale with every window the form allows; shape (scales, windows)."""
    return _errors_of_windows(density, scales, form.lowest_codes, form.levels)


def _errors_of_windows(density: Density, scales: Float64, lowest: NDArray[np.int64], levels: int) -> Float64:
    """The formula of the module for windows `levels` wide: cells inside, and one half-open cell at each end.

    The cells of a lattice are the same for all windows, so their errors are summed up once per scale. With
    M0, M1, M2 the integrals of 1, x and x² over a cell, its error is M2 - 2·scale·k·M1 + (scale·k)²·M0.
    """
    first = int(lowest.min())
    codes = np.arange(first, int(lowest.max()) + levels)
    values = scales[:, None] * codes
    below = density.moments_below(scales[:, None] * (codes[:-1] + 0.5))
    whole = density.moments_below(np.array([np.inf]))[:, :, None]

    inside = np.zeros((scales.size, codes.size))  # summed errors of the cells up to each code, ends left out
    np.cumsum(_error_about(values[:, 1:-1], below[:, :, 1:] - below[:, :, :-1]), axis=1, out=inside[:, 1:-1])
    low, high = lowest - first, lowest - first + levels - 1
    return (
        _error_about(values[:, low], below[:, :, low])
        + inside[:, high - 1]
        - inside[:, low]
        + _error_about(values[:, high], whole - below[:, :, high - 1])
    )


def _error_about(value: Float64, moments: Float64) -> Float64:
    error: Float64 = moments[2] - 2 * value * moments[1] + value * value * moments[0]
    return error


def _percentile_bounds(density: Density, form: Form, fraction: float) -> tuple[float, float]:
    if form.lowest_codes.size > 1:
        rest = (1 - fraction) / 2
        return density.quantile(rest), density.quantile(1 - rest)
    folded = Density(
        exponent=density.exponent,
        mass=np.concatenate([np.zeros(density.mass.size // 2), _folded(density.mass)]),
        minimum=0.0,
        maximum=max(-density.minimum, density.maximum),
    )
    bound = folded.quantile(fraction)
    return -bound, bound


def _folded(mass: Float64) -> Float64:
    """The mass of each pair of bins at the same distance from zero."""
    half = mass.size // 2
    folded: Float64 = mass[half:] + mass[half - 1 :: -1]
    return folded


def _least_divergence(density: Density, form: Form, bounds: int) -> Quantizer:
    largest = max(-density.minimum, density.maximum)
    best = form.covering(density.minimum, density.maximum)
    least = math.inf
    for bound in np.geomspace(largest, largest / 32, bounds) if largest > 0 else ():
        quantizer = form.covering(max(density.minimum, -bound), min(density.maximum, bound))
        divergence = _divergence(density.mass / density.total, density.bin_width, quantizer)
        if divergence < least:
            best, least = quantizer, divergence
    return best


def _divergence(mass: Float64, bin_width: float, quantizer: Quantizer) -> float:
    """KL(clipped distribution || what its codes retain), summed over bins that hold anything."""
    centres = (EDGES[:-1] + 0.5) * bin_width
    codes = np.rint(centres / quantizer.scale).astype(np.int64)
    inside = (codes >= quantizer.lowest) & (codes <= quantizer.highest)
    clipped = np.where(inside, mass, 0.0)
    bins = np.flatnonzero(inside)
    clipped[bins[0]] += mass[: bins[0]].sum()
    clipped[bins[-1]] += mass[bins[-1] + 1 :].sum()
    alike = codes[bins] - quantizer.lowest
    occupied = clipped[bins] > 0
    sums = np.bincount(alike, mass[bins])  # the tails are lost to the codes: this is what clipping costs
    occupants = np.bincount(alike, occupied)
    spread = sums[alike] / np.maximum(occupants[alike], 1)
    p, q = clipped[bins][occupied], np.maximum(spread[occupied], 1e-12)
    return float(np.sum(p * np.log(p / q)))


def choose_for_steps(
    densities: list[Density], form: Form, method: Method, weights: list[float] | Float64 | None = None
) -> Quantizer:
    """The one quantizer for several steps: of their weighted mixture, or by their summed errors for `Mse`."""
    if isinstance(method, Mse):
        return least_error(densities, form, method, weights)
    return choose_quantizer(mixture_of(densities, weights), form, method)
