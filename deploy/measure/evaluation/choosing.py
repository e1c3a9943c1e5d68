"""The judge of `schedule`: how ways to sample look on pictures with known originals (see `judging` for its rule)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deploy.measure.evaluation.judging import MOST_SSIMULACRA2_LOST
from deploy.measure.evaluation.originals import Original, read_originals
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.packaged.places import CALIBRATION_IMAGES
from deploy.picture.schedule.presets import LARGEST_LR_SIDE, Judge
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

PICTURES = 6
"""Of the calibration pictures, spread over them: presets are chosen on these, never on held-out ones."""


def judge_for(
    upscaler: Upscaler,
    scale: float,
    *,
    folder: Path | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None],
) -> Judge | None:
    """By SSIMULACRA2 on the middle of originals in `folder`, or of calibration pictures; None: the model generates."""
    if upscaler.session.model.generates:
        return None
    side = min(upscaler.session.model.usual_lr or LARGEST_LR_SIDE, LARGEST_LR_SIDE)
    if folder is None:
        originals = read_originals(CALIBRATION_IMAGES, scale, limit=PICTURES, crop=_crop(scale, side, 144))
        where = f"{PICTURES} calibration pictures"
    else:
        originals = read_originals(folder, scale)
        originals = read_originals(
            folder, scale, limit=min(PICTURES, len(originals)), crop=_crop(scale, side, _least_side(originals))
        )
        where = f"{len(originals)} originals of {folder.name}"

    def looks(ways: Sequence[Choices]) -> list[float]:
        values = []
        for number, way in enumerate(ways):
            progress(f"judging {number + 1} of {len(ways)} ways to sample", number / len(ways))
            values.append(_look(upscaler, originals, way, seed))
        return values

    return Judge(name="ssimulacra2", looks=looks, most_lost=MOST_SSIMULACRA2_LOST, where=where)


def _crop(scale: float, lr_side: int, most: int) -> int:
    return min(round(scale * lr_side), most)


def _least_side(originals: Sequence[Original]) -> int:
    return min(min(original.size) for original in originals)


def _look(upscaler: Upscaler, originals: Sequence[Original], way: Choices, seed: int) -> float:
    values = []
    for original in originals:
        pixels = upscaler.upscale(original.lr, size=original.size.for_user, seed=seed, choices=way)
        values.append(ssimulacra2(pixels, original.pixels))
    return float(np.mean(values))
