"""How good a picture is: against the original, against the LR input, and against another result.

Pictures are (H, W, 3) with values in [0, 255], uint8 or floating; sums are made in float64. Sizes are
(height, width). Figures over several pictures come with a 95 % confidence interval over the photographs that they are
of (`mean_with_interval`), and two methods on the same pictures are compared by their paired differences
(`paired_difference`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.errors import SizeError
from deploy.images.resize import downscale
from engines.arrays import Float64

Picture = NDArray[np.uint8] | NDArray[np.floating]

PEAK = 255.0
_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5
SSIM_SIDE = 2 * _SSIM_RADIUS + 1
"""Pixels a side of its window, and so the least that a picture must have."""
_LUMA = np.array([65.481, 128.553, 24.966]) / 255.0  # BT.601, studio range: 16 for black, 235 for white


def psnr(a: Picture, b: Picture, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB over all three channels; infinite for equal pictures.

    border: pixels left out at each side, as some papers do (usually the scale).
    """
    check_same(a, b, "PSNR")
    return _psnr_from_difference(_inside(a, border) - _inside(b, border))


def psnr_y(a: Picture, b: Picture, border: int = 0) -> float:
    """PSNR in dB of the luma of BT.601 (Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in 0..1).

    The peak is 255 as in the super-resolution literature, although Y reaches only from 16 to 235.
    """
    check_same(a, b, "PSNR of Y")
    return _psnr_from_difference((_inside(a, border) - _inside(b, border)) @ _LUMA)


def ssim(a: Picture, b: Picture) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window 11x11, sigma 1.5, mean over channels.

    Windows that reach over the border are left out, as in the authors' code.
    """
    check_same(a, b, "SSIM")
    if min(a.shape[:2]) < SSIM_SIDE:
        raise SizeError(
            f"measuring SSIM: the pictures are {a.shape[0]}x{a.shape[1]}, its window needs {SSIM_SIDE} rows and "
            "columns."
        )
    return float(np.mean([_ssim_of_channel(a[..., k], b[..., k]) for k in range(a.shape[2])]))


def fidelity(a: Picture, b: Picture) -> float:
    """PSNR in dB between two results of the same noise: what an approximation such as int8 has changed."""
    return psnr(a, b)


def lr_consistency(output: Picture, lr: Picture) -> float:
    """PSNR in dB between the LR picture and the output reduced to its size by antialiased bicubic.

    Against an 8-bit LR picture even the original stays near 58.9 dB: rounding has a variance of 1/12.
    """
    return psnr(_reduced(output, (lr.shape[0], lr.shape[1])), lr)


def consistency_between_scales(larger: Picture, smaller: Picture) -> float:
    """PSNR in dB between the smaller result and the larger one reduced to its size."""
    return psnr(_reduced(larger, (smaller.shape[0], smaller.shape[1])), smaller)


def self_ssim(larger: Picture, smaller: Picture) -> float:
    """SelfSSIM (Ntavelis et al., CVPR 2022; Kim and Kim, CVPR 2024): SSIM between one picture made at two sizes.

    The larger one is reduced to the smaller one's size by antialiased bicubic, which the papers leave open.
    """
    return ssim(_reduced(larger, (smaller.shape[0], smaller.shape[1])), smaller.astype(np.float64))


def diversity(draws: Sequence[Picture]) -> float:
    """By how much draws of one picture differ: the standard deviation of a value between them, averaged, in levels.

    Over n draws it is the square root of the mean over pixels of the sum of squared differences from the draws' mean,
    over n - 1.
    """
    if len(draws) < 2:
        raise ValueError(f"the spread of {len(draws)} draws is not defined")
    stack = np.stack([np.asarray(draw, np.float64) for draw in draws])
    return float(np.sqrt(stack.var(axis=0, ddof=1).mean()))


def high_frequency_energy(output: Picture, original: Picture, lr_size: tuple[int, int]) -> float:
    """How much of the original's detail beyond the LR picture's reach the output has: 0 none, 1 as much.

    The amplitude ratio sqrt(E(output) / E(original)), where E sums |F|^2 over the three channels and over
    the frequencies above the LR Nyquist in either axis (maximum norm), and F is the Fourier transform of the
    mean-free picture under a Hann window. Without the window the jump from one border to the opposite one counts
    as detail: bicubic, which has hardly any, would be credited with a quarter of the original's. On
    128-pixel photo crops at 4x bicubic has about 0.2. It says how sharp, not how right: noise counts too.
    Not a number where the original has no such detail.
    """
    check_same(output, original, "high-frequency energy")
    above = _above_nyquist((original.shape[0], original.shape[1]), lr_size)
    reference = _energy(original, above)
    if reference < 1e-9 * original.size:  # what rounding leaves of a flat picture
        return math.nan
    return math.sqrt(_energy(output, above) / reference)


def mean_colour_error(a: Picture, b: Picture) -> float:
    """Largest difference of the channels' means, in levels (1/255); the sizes may differ."""
    means = [picture.mean(axis=(0, 1), dtype=np.float64) for picture in (a, b)]
    return float(np.abs(means[0] - means[1]).max())


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over `count` pictures of `photographs`, and the half width of its 95 % interval over the photographs.

    half_width: None where there is only one photograph.
    """

    mean: float
    half_width: float | None
    count: int
    photographs: int


def mean_with_interval(values: Sequence[float], photographs: Sequence[str] | None = None) -> Interval:
    """The mean over the pictures and its 95 % confidence interval over the photographs; values that are not numbers are
    left out.

    `photographs` says which one each picture is of; None: each is of its own. The standard error is the one that a
    bootstrap of whole photographs has in the limit of many draws, sqrt(sum over photographs of (sum of its values -
    their number times the mean)^2) / pictures, widened for few photographs by sqrt(G / (G - 1)) and by Student's t for
    G - 1 degrees of freedom. With one picture each that is the usual interval of a mean.

    An infinite value (PSNR of equal pictures) gives an infinite mean without an interval.
    """
    names = [str(index) for index in range(len(values))] if photographs is None else photographs
    pairs = [(value, name) for value, name in zip(values, names, strict=True) if not math.isnan(value)]
    if not pairs:
        raise ValueError(f"the mean of {len(values)} values, none of them a number, is not defined")
    defined = np.array([value for value, _ in pairs], np.float64)
    _, group = np.unique([name for _, name in pairs], return_inverse=True)
    groups = int(group.max()) + 1
    if groups == 1 or not np.isfinite(defined).all():
        mean = float(defined.mean()) if np.isfinite(defined).all() else float(defined[~np.isfinite(defined)][0])
        return Interval(mean=mean, half_width=None, count=defined.size, photographs=groups)
    mean = float(defined.mean())
    deviations = np.bincount(group, weights=defined - mean)
    error = math.sqrt(float(np.square(deviations).sum()) * groups / (groups - 1)) / defined.size
    half_width = student_t_quantile(groups - 1) * error
    return Interval(mean=mean, half_width=half_width, count=defined.size, photographs=groups)


def paired_difference(a: Sequence[float], b: Sequence[float], photographs: Sequence[str] | None = None) -> Interval:
    """Mean of a - b picture by picture, with its interval: what remains once the pictures' own differences cancel.

    Pairs that are equal count as 0, also where both are infinite. `photographs` as in `mean_with_interval`.
    """
    return mean_with_interval([0.0 if x == y else x - y for x, y in zip(a, b, strict=True)], photographs)


def student_t_quantile(degrees: int) -> float:
    """The t with 95 % of Student's distribution between -t and t: 12.71 for one degree of freedom, 1.96 for many."""
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_probability(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def _student_probability(t: float, degrees: int) -> float:
    """Probability between -t and t for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    total *= math.sin(angle)
    return 2.0 / math.pi * (angle + total) if odd else total


def _psnr_from_difference(difference: Float64) -> float:
    error = float(np.mean(np.square(difference)))
    return 10.0 * math.log10(PEAK**2 / error) if error > 0 else math.inf


def _ssim_of_channel(a: Picture, b: Picture) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _gaussian(x), _gaussian(y)
    variance_x = _gaussian(x * x) - mean_x * mean_x
    variance_y = _gaussian(y * y) - mean_y * mean_y
    covariance = _gaussian(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(np.mean(above / below))


def _gaussian(image: Float64) -> Float64:
    """Gaussian-weighted means, where the window fits: (H, W) -> (H - 10, W - 10)."""
    offset = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offset / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for _ in range(2):  # down the columns, then, transposed, along the rows
        rows = image.shape[0] - 2 * _SSIM_RADIUS
        filtered = np.zeros((rows, image.shape[1]))
        for k, weight in enumerate(weights):
            filtered += weight * image[k : k + rows]
        image = filtered.T
    return image


def _above_nyquist(size: tuple[int, int], lr_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which coefficients of a transform of `size` lie above the LR picture's Nyquist frequency in some axis."""
    high = [np.abs(np.fft.fftfreq(n)) > 0.5 * lr / n for n, lr in zip(size, lr_size, strict=True)]
    return np.asarray(high[0][:, None] | high[1][None, :])


def _energy(picture: Picture, selected: NDArray[np.bool_]) -> float:
    values = picture.astype(np.float64)
    values -= values.mean(axis=(0, 1))
    for axis, n in enumerate(picture.shape[:2]):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
        values *= np.expand_dims(window, (1 - axis, 2))
    spectrum = np.fft.fft2(values, axes=(0, 1))[selected]
    return float(np.sum(spectrum.real**2 + spectrum.imag**2))


def _reduced(picture: Picture, size: tuple[int, int]) -> NDArray[np.floating]:
    planes = np.moveaxis(picture, -1, 0).astype(np.float32)
    return np.moveaxis(np.clip(downscale(planes, size), 0.0, PEAK), 0, -1)


def _inside(picture: Picture, border: int) -> Float64:
    height, width = picture.shape[:2]
    if border < 0 or 2 * border >= min(height, width):
        raise SizeError(f"measuring PSNR: a border of {border} pixels leaves nothing of {height}x{width}.")
    return picture[border : height - border, border : width - border].astype(np.float64)


def check_same(a: Picture, b: Picture, what: str, *, least_side: int = 0) -> None:
    """Both are of one shape, and no side is shorter; what: the name of the measure that needs it."""
    if a.shape != b.shape:
        raise SizeError(
            f"measuring {what}: the pictures differ in shape, {tuple(a.shape)} and {tuple(b.shape)}; "
            "both must be (height, width, 3) of one size."
        )
    height, width = b.shape[:2]
    if min(height, width) < least_side:
        raise SizeError(f"measuring {what}: the pictures are {width}x{height}, it needs {least_side} pixels a side.")
