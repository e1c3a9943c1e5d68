"""Which pictures a page shows: named originals, the bundle's own samples, or packaged photographs."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from deploy.bundle import Bundle
from deploy.bundle.naming import stem_of_content_name
from deploy.errors import SizeError
from deploy.images.files import read_image
from deploy.images.resize import upscale
from deploy.measure.evaluation.originals import (
    Original,
    Pixels,
    original_from_pixels,
    pixels_from_planes,
    read_originals,
)
from deploy.packaged.places import EVALUATION_IMAGES, SAMPLE_ORIGINALS, packaged_pictures

LONGEST_SIDE = 384
"""Pixels a side of a picture on the page; of larger ones the middle is shown."""

USUAL_SCALE = 4.0

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Pictures to enlarge. Where the true picture is not known, `pixels` only hold the size: bicubic stands in."""

    pictures: tuple[Original, ...]
    are_known: bool
    origin: str
    """Which pictures they are, as the page says it."""


def usual_scale(bundle: Bundle) -> float:
    """4, or the largest that training saw where that is less."""
    trained = bundle.manifest.scale_range["trained"]
    return USUAL_SCALE if trained is None else min(USUAL_SCALE, float(trained[1]))


def chosen_pictures(bundle: Bundle, count: int, scale: float, originals: Path | None = None) -> Chosen:
    """The first `count` pictures of what says most of this bundle: `originals` if named, its own samples, packaged."""
    if not (math.isfinite(scale) and scale >= 1):
        raise SizeError(f"The page's pictures need a scale of 1 or more, found {scale!r}.")
    if count < 1:
        raise SizeError(f"The page needs at least 1 picture, found {count}; --no-pictures makes it without.")
    if originals is not None:
        found = read_originals(originals, scale)
        cut = [_known(one.name, one.pixels, scale) for one in _spread(found, count)]
        return Chosen(pictures=tuple(cut), are_known=True, origin=f"originals from {originals.name}")
    own = [path for path in bundle.sample_images() if _sha256(path) not in _packaged_samples()]
    if own:
        made = [_unknown(path, scale) for path in own[:count]]
        return Chosen(pictures=tuple(made), are_known=False, origin="the bundle's own samples")
    return Chosen(pictures=tuple(_packaged(count, scale)), are_known=True, origin="packaged photographs")


def _packaged(count: int, scale: float) -> list[Original]:
    """The originals of the packaged samples first, then the smaller held-out ones, spread over the photographs."""
    large = sorted(SAMPLE_ORIGINALS.glob("*.png"))[:count]
    small = sorted(EVALUATION_IMAGES.glob("*.png"))
    paths = [*large, *_spread(small, count - len(large))]
    return [_known(path.name, read_image(path).pixels, scale) for path in paths]


def _spread(found: list[T], count: int) -> list[T]:
    if count < 1:
        return []
    return found[:: max(1, len(found) // count)][:count]


def _known(name: str, pixels: Pixels, scale: float) -> Original:
    """An original, or its middle, with the LR picture made of it."""
    crop = min(LONGEST_SIDE, *pixels.shape[:2]) if max(pixels.shape[:2]) > LONGEST_SIDE else None
    return original_from_pixels(name, pixels, scale, crop)


def _unknown(path: Path, scale: float) -> Original:
    """A low-resolution picture, or its middle, whose true enlargement nobody knows."""
    pixels = read_image(path).pixels
    limit = max(int(LONGEST_SIDE / scale), 1)
    top, left = (max(side - limit, 0) // 2 for side in pixels.shape[:2])
    lr = np.ascontiguousarray(pixels[top : top + limit, left : left + limit])
    size = round(scale * lr.shape[0]), round(scale * lr.shape[1])
    enlarged = pixels_from_planes(upscale(np.moveaxis(lr, -1, 0).astype(np.float32), size))
    return Original(name=stem_of_content_name(path.name) or path.stem, pixels=enlarged, lr=lr)


def _packaged_samples() -> frozenset[str]:
    return frozenset(_sha256(path) for path in packaged_pictures())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
