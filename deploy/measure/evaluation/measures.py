"""What is measured of a result: each measure is one record of a table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deploy.images.pictures import Pixels
from deploy.images.resize import upscale
from deploy.measure.dists import Dists
from deploy.measure.evaluation.originals import Original
from deploy.measure.haarpsi import SMALLEST_SIDE as SMALLEST_FOR_HAARPSI
from deploy.measure.haarpsi import haarpsi
from deploy.measure.lpips import Lpips
from deploy.measure.metrics import (
    SSIM_SIDE,
    consistency_between_scales,
    diversity,
    high_frequency_energy,
    lr_consistency,
    mean_colour_error,
    psnr,
    psnr_y,
    self_ssim,
    ssim,
)
from deploy.measure.ssimulacra2 import ssimulacra2


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One enlarged picture and what it is held against.

    `smaller` is the same LR picture enlarged by the next smaller scale with the same seed; None: there is none.
    `draws` are all the pictures that were made of this LR picture by this way, of different noise.
    """

    pixels: Pixels
    original: Original
    smaller: Pixels | None = None
    draws: Sequence[Pixels] = ()


@dataclass(frozen=True)
class Measure:
    """One figure of a result. `heading` is its column's, `decimals` how many of them mean something."""

    heading: str
    decimals: int
    meaning: str
    of: Callable[[Result], float]


PSNR, SSIMULACRA2, LR_CONSISTENCY = "psnr", "ssimulacra2", "lr_consistency"
DETAIL = "energy"
"""Told, and never judged by: grain counts as detail."""


def _detail(result: Result) -> float:
    lr = result.original.lr
    return high_frequency_energy(result.pixels, result.original.pixels, (lr.shape[0], lr.shape[1]))


def _haarpsi(result: Result) -> float:
    too_small = min(result.pixels.shape[:2]) < SMALLEST_FOR_HAARPSI
    return math.nan if too_small else haarpsi(result.pixels, result.original.pixels)


def _lr_consistency(result: Result) -> float:
    return lr_consistency(result.pixels, result.original.lr)


def _consistency_between_scales(result: Result) -> float:
    return math.nan if result.smaller is None else consistency_between_scales(result.pixels, result.smaller)


def _self_ssim(result: Result) -> float:
    if result.smaller is None or min(result.smaller.shape[:2]) < SSIM_SIDE:
        return math.nan
    return self_ssim(result.pixels, result.smaller)


def _colour_error_to_lr(result: Result) -> float:
    height, width = result.pixels.shape[:2]
    enlarged = upscale(np.moveaxis(result.original.lr, -1, 0).astype(np.float32), (height, width))
    return mean_colour_error(result.pixels, np.moveaxis(enlarged, 0, -1))


def _diversity(result: Result) -> float:
    return diversity(result.draws) if len(result.draws) > 1 else math.nan


def _to_original(measure: Callable[[Pixels, Pixels], float]) -> Callable[[Result], float]:
    return lambda result: measure(result.pixels, result.original.pixels)


MEASURES: Mapping[str, Measure] = {
    PSNR: Measure("PSNR", 2, "dB to the original, RGB", _to_original(psnr)),
    "psnr_y": Measure("PSNR Y", 2, "dB to the original, luma", _to_original(psnr_y)),
    "ssim": Measure("SSIM", 4, "structural similarity to the original", _to_original(ssim)),
    SSIMULACRA2: Measure(
        "SSIMULACRA2",
        1,
        "how near it looks to the original: 100 equal, 70 good, 50 middling, 30 poor",
        _to_original(ssimulacra2),
    ),
    "haarpsi": Measure("HaarPSI", 4, "a second opinion on how near it looks to the original, 0 to 1", _haarpsi),
    LR_CONSISTENCY: Measure(
        "LR cons.", 1, "dB between the LR picture and the result reduced to its size", _lr_consistency
    ),
    "scale_consistency": Measure(
        "scale cons.",
        1,
        "dB between the result, reduced, and the same LR picture and seed enlarged by the next smaller scale",
        _consistency_between_scales,
    ),
    "self_ssim": Measure("SelfSSIM", 3, "SSIM between the same two, 1 where they agree", _self_ssim),
    "diversity": Measure("diversity", 2, "standard deviation of a pixel between draws, levels of 255", _diversity),
    DETAIL: Measure(
        "detail", 2, "amplitude above the LR Nyquist as a share of the original's; noise counts too", _detail
    ),
    "colour_to_lr": Measure(
        "colour/LR",
        2,
        "largest difference of a channel's mean from the enlarged LR picture's, levels of 255",
        _colour_error_to_lr,
    ),
    "colour": Measure("colour", 2, "the same from the original's mean", _to_original(mean_colour_error)),
}
"""In the order of the table's columns."""


def measures_with(lpips: Lpips | None = None, dists: Dists | None = None) -> Mapping[str, Measure]:
    """The same with the distances by networks whose weights lie here, after SSIM's relatives."""
    added = {}
    for name, network in (("lpips", lpips), ("dists", dists)):
        if network is not None:
            meaning = f"perceptual distance to the original, smaller is better ({network.describe()})"
            added[name] = Measure(name.upper(), 4, meaning, _to_original(network.distance))
    items = list(MEASURES.items())
    place = [name for name, _ in items].index(LR_CONSISTENCY)
    return dict([*items[:place], *added.items(), *items[place:]])


def figures_of(result: Result, measures: Mapping[str, Measure]) -> dict[str, float]:
    """Every measure of one result."""
    return {name: measure.of(result) for name, measure in measures.items()}
