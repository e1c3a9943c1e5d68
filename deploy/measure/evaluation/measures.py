"""What is measured of a result: each measure is one line of a table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from deploy.images.pictures import Pixels
from deploy.images.resize import upscale
from deploy.measure.evaluation.originals import Original
from deploy.measure.lpips import Lpips
from deploy.measure.metrics import (
    consistency_between_scales,
    high_frequency_energy,
    lr_consistency,
    mean_colour_error,
    psnr,
    psnr_y,
    ssim,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One enlarged picture and what it is held against.

    `smaller` is the same LR picture enlarged by the next smaller scale with the same seed; None: there is none.
    """

    pixels: Pixels
    original: Original
    smaller: Pixels | None = None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a result. `heading` is its column's, `decimals` how many of them mean something."""

    heading: str
    meaning: str
    decimals: int
    of: Callable[[Result], float]


PSNR, LR_CONSISTENCY, DETAIL = "psnr", "lr_consistency", "energy"
"""The measures that settings are judged by."""


def _detail(result: Result) -> float:
    lr = result.original.lr
    return high_frequency_energy(result.pixels, result.original.pixels, (lr.shape[0], lr.shape[1]))


def _consistency_between_scales(result: Result) -> float:
    return math.nan if result.smaller is None else consistency_between_scales(result.pixels, result.smaller)


def _colour_error_to_lr(result: Result) -> float:
    height, width = result.pixels.shape[:2]
    enlarged = upscale(np.moveaxis(result.original.lr, -1, 0).astype(np.float32), (height, width))
    return mean_colour_error(result.pixels, np.moveaxis(enlarged, 0, -1))


MEASURES: Mapping[str, Measure] = {
    PSNR: Measure(
        heading="PSNR",
        meaning="dB to the original, RGB",
        decimals=2,
        of=lambda result: psnr(result.pixels, result.original.pixels),
    ),
    "psnr_y": Measure(
        heading="PSNR Y",
        meaning="dB to the original, luma",
        decimals=2,
        of=lambda result: psnr_y(result.pixels, result.original.pixels),
    ),
    "ssim": Measure(
        heading="SSIM",
        meaning="structural similarity to the original",
        decimals=4,
        of=lambda result: ssim(result.pixels, result.original.pixels),
    ),
    LR_CONSISTENCY: Measure(
        heading="LR cons.",
        meaning="dB between the LR picture and the result reduced to its size",
        decimals=1,
        of=lambda result: lr_consistency(result.pixels, result.original.lr),
    ),
    "scale_consistency": Measure(
        heading="scale cons.",
        meaning="dB between the result, reduced, and the same LR picture and seed enlarged by the next smaller scale",
        decimals=1,
        of=_consistency_between_scales,
    ),
    DETAIL: Measure(
        heading="detail",
        meaning="amplitude above the LR Nyquist as a share of the original's; noise counts too",
        decimals=2,
        of=_detail,
    ),
    "colour_to_lr": Measure(
        heading="colour/LR",
        meaning="largest difference of a channel's mean from the enlarged LR picture's, levels of 255",
        decimals=2,
        of=_colour_error_to_lr,
    ),
    "colour": Measure(
        heading="colour",
        meaning="the same from the original's mean",
        decimals=2,
        of=lambda result: mean_colour_error(result.pixels, result.original.pixels),
    ),
}
"""In the order of the table's columns."""


def measures_with_lpips(lpips: Lpips) -> Mapping[str, Measure]:
    """The usual measures with LPIPS after SSIM."""
    added = Measure(
        heading="LPIPS",
        meaning=f"perceptual distance to the original, smaller is better ({lpips.describe()})",
        decimals=4,
        of=lambda result: lpips.distance(result.pixels, result.original.pixels),
    )
    items = list(MEASURES.items())
    place = [name for name, _ in items].index("ssim") + 1
    return dict([*items[:place], ("lpips", added), *items[place:]])


def figures_of(result: Result, measures: Mapping[str, Measure]) -> dict[str, float]:
    """Every measure of one result."""
    return {name: measure.of(result) for name, measure in measures.items()}
