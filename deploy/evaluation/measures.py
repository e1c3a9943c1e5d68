"""What is measured of a result: each measure is one line of a table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from deploy.evaluation.originals import Original
from deploy.images.metrics import (
    Picture,
    high_frequency_energy,
    lr_consistency,
    mean_colour_error,
    psnr,
    psnr_y,
    ssim,
)
from deploy.images.resize import upscale


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a result. `heading` is its column's, `decimals` how many of them mean something."""

    heading: str
    meaning: str
    decimals: int
    of: Callable[[Picture, Original], float]


def colour_error_to_lr(output: Picture, original: Original) -> float:
    """Largest difference of a channel's mean from that of the enlarged LR picture, in levels."""
    planes = np.moveaxis(original.lr, -1, 0).astype(np.float32)
    enlarged = upscale(planes, (original.pixels.shape[0], original.pixels.shape[1]))
    return mean_colour_error(output, np.moveaxis(enlarged, 0, -1))


MEASURES: Mapping[str, Measure] = {
    "psnr": Measure(
        heading="PSNR",
        meaning="dB to the original, RGB",
        decimals=2,
        of=lambda output, original: psnr(output, original.pixels),
    ),
    "psnr_y": Measure(
        heading="PSNR Y",
        meaning="dB to the original, luma",
        decimals=2,
        of=lambda output, original: psnr_y(output, original.pixels),
    ),
    "ssim": Measure(
        heading="SSIM",
        meaning="structural similarity to the original",
        decimals=4,
        of=lambda output, original: ssim(output, original.pixels),
    ),
    "lr_consistency": Measure(
        heading="LR cons.",
        meaning="dB between the LR picture and the result reduced to its size",
        decimals=1,
        of=lambda output, original: lr_consistency(output, original.lr),
    ),
    "energy": Measure(
        heading="detail",
        meaning="amplitude above the LR Nyquist as a share of the original's; noise counts too",
        decimals=2,
        of=lambda output, original: high_frequency_energy(
            output, original.pixels, (original.lr.shape[0], original.lr.shape[1])
        ),
    ),
    "colour_to_lr": Measure(
        heading="colour/LR",
        meaning="largest difference of a channel's mean from the enlarged LR picture's, levels of 255",
        decimals=2,
        of=colour_error_to_lr,
    ),
    "colour": Measure(
        heading="colour",
        meaning="the same from the original's mean",
        decimals=2,
        of=lambda output, original: mean_colour_error(output, original.pixels),
    ),
}
"""In the order of the table's columns."""


def figures_of(output: Picture, original: Original) -> dict[str, float]:
    """Every measure of one result."""
    return {name: measure.of(output, original) for name, measure in MEASURES.items()}
