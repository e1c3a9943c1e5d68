"""Which of several originals are of one photograph: what their names say, and what their pixels show.

Crops of one photograph, and several shots of one view, resemble one another: a mean over them is sure about that
photograph and says little of the next. So intervals are over photographs (`deploy.measure.metrics`).
"""

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.images.pictures import Pixels

CROP_OF = re.compile(r"(?P<photograph>.+)-crop\d+")
"""How files are named that are crops of one photograph: `bridge-crop1.png` and `bridge-crop2.png`."""
THUMBNAIL = 16
ALIKE = 0.93
"""Correlation of two thumbnails above which they show the same view; docs/quality.md says what was measured."""
LEAST_CONTRAST = 1.0
"""Levels, in the root mean square: flatter thumbnails say nothing of what is shown."""


def photographs_of(names: Sequence[str], pictures: Sequence[Pixels]) -> tuple[str, ...]:
    """Which photograph each picture is of, under the name of its first."""
    parents = [_photograph_of_name(name) for name in names]
    group = [parents.index(parent) for parent in parents]
    thumbnails = np.stack([_thumbnail(picture) for picture in pictures]) if pictures else np.zeros((0, 1))
    for first, second in np.argwhere(np.triu(thumbnails @ thumbnails.T, k=1) > ALIKE):
        low, high = sorted((group[first], group[second]))
        group = [low if place == high else place for place in group]
    return tuple(parents[place] for place in group)


def _photograph_of_name(name: str) -> str:
    match = CROP_OF.fullmatch(PurePath(name).stem)
    return match["photograph"] if match else name


def _thumbnail(picture: Pixels) -> NDArray[np.float64]:
    """16x16 colours without their mean, as a vector of length 1; of a flat picture, zeros."""
    image = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    values = np.asarray(image, np.float64)
    values = values - values.mean(axis=(0, 1))
    if np.sqrt(np.square(values).mean()) < LEAST_CONTRAST:
        return np.zeros(values.size)
    return np.asarray(values.ravel() / np.linalg.norm(values))
