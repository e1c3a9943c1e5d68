"""The pictures that an evaluation starts from: originals cut to size, and the low-resolution pictures made of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError, SizeError
from deploy.images.files import FORMAT_FROM_SUFFIX, read_image
from deploy.images.resize import downscale

Pixels = NDArray[np.uint8]

SMALLEST_SIDE = 11
"""Rows and columns that the window of SSIM needs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """One original, cut to the size that its low-resolution picture enlarges to; both uint8 (height, width, 3)."""

    name: str
    pixels: Pixels
    lr: Pixels
    whole: tuple[int, int] | None = None
    """(width, height) before it was cut; None: it was not."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the original, as users say it."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_originals(folder: Path, scale: float, *, crop: int | None = None, limit: int | None = None) -> list[Original]:
    """The pictures of a folder in the order of their names, or `limit` of them, spread evenly over the names.

    `crop`: the middle `crop` x `crop` pixels of each are taken, all pictures must have as many. Then every side is cut
    in its middle to the largest length that a whole number of LR pixels enlarges to (4x: a multiple of 4).
    """
    check_numbers(scale, crop, limit)
    if not folder.is_dir():
        raise ImageError(f"reading originals: {folder} is not a folder; name the folder that holds the pictures.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMAT_FROM_SUFFIX)
    if not paths:
        raise ImageError(
            f"reading originals: {folder} holds no picture; expected files ending in {', '.join(FORMAT_FROM_SUFFIX)}."
        )
    if limit is not None and len(paths) < limit:
        raise ImageError(
            f"reading originals: {limit} pictures were asked for, {folder} holds {len(paths)}; ask for fewer."
        )
    # Neighbours are often of one scene: the first few would say little of the rest.
    chosen = [paths[index * len(paths) // limit] for index in range(limit)] if limit is not None else paths
    return [original_from_pixels(path.name, read_image(path).pixels, scale, crop) for path in chosen]


def check_numbers(scale: float, crop: int | None, limit: int | None) -> None:
    """The numbers make sense by themselves, whatever the pictures."""
    if not (math.isfinite(scale) and scale >= 1):
        raise SizeError(f"An evaluation needs a scale of 1 or more, found {scale!r}.")
    for name, value in (("crop", crop), ("limit", limit)):
        if value is not None and value < 1:
            raise SizeError(f"The {name} must be at least 1, found {value}.")


def original_from_pixels(name: str, pixels: Pixels, scale: float, crop: int | None = None) -> Original:
    """One original, cut to size, with its LR picture: antialiased bicubic, rounded to 8 bits as users' pictures are."""
    height, width = pixels.shape[:2]
    if crop is not None and crop > min(height, width):
        raise SizeError(f"{name} is {width}x{height}, too small to take {crop}x{crop} pixels of it; lower --crop.")
    low, high = zip(*(_sides(crop or side, scale) for side in (height, width)), strict=True)
    if min(high) < SMALLEST_SIDE:
        raise SizeError(
            f"{name} leaves {high[1]}x{high[0]} pixels at scale {scale:g}; at least {SMALLEST_SIDE} a side are needed."
        )
    top, left = ((side - length) // 2 for side, length in zip((height, width), high, strict=True))
    cut = np.ascontiguousarray(pixels[top : top + high[0], left : left + high[1]])
    whole = None if cut.shape == pixels.shape else (width, height)
    return Original(name=name, pixels=cut, lr=low_resolution(cut, (low[0], low[1])), whole=whole)


def low_resolution(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture reduced to (height, width) by the antialiased bicubic of training and rounded to 8 bits."""
    planes = downscale(np.moveaxis(pixels, -1, 0).astype(np.float32), size)
    return pixels_from_planes(planes)


def pixels_from_planes(planes: NDArray[np.floating]) -> Pixels:
    """uint8 (height, width, 3) of float (3, height, width) in 0..255, limited and rounded."""
    return np.ascontiguousarray(np.moveaxis(np.rint(np.clip(planes, 0, 255)).astype(np.uint8), 0, -1))


def _sides(side: int, scale: float) -> tuple[int, int]:
    """The most LR pixels whose enlargement round(scale * n) fits into `side`, and that enlargement."""
    low = max(math.floor((side + 0.5) / scale), 1)
    while low > 1 and round(low * scale) > side:
        low -= 1
    return low, min(round(low * scale), side)
