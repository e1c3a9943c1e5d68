"""The pictures that calibration starts from: training-like ones, cut or padded to one size and made small."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import ImageError, SizeError
from deploy.evaluation.originals import Original, Pixels, original_from_pixels
from deploy.images.files import FORMAT_FROM_SUFFIX, read_image
from deploy.quantization.settings import QuantizeSettings

Say = Callable[[str], None]

FLATTEST = 2.0
"""Standard deviation, in levels of 255, below which a picture has nothing to calibrate with."""

FEWEST = 4
"""Pictures below which a set is called small."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationPicture:
    """One picture at one scale. `sha256` is that of its file."""

    original: Original
    scale: float
    sha256: str


def calibration_pictures(
    folder: Path, settings: QuantizeSettings, say: Say, most_lr: int | None = None
) -> list[CalibrationPicture]:
    """The pictures of a folder in the order of their names, each at one of the scales in turn.

    Files that cannot be read are named and passed over; smaller pictures are continued by their mirror image.
    most_lr: no side of the low-resolution pictures is larger; crops at small scales are smaller then.
    """
    pictures = [
        CalibrationPicture(
            original=_original(path.name, pixels, scale, min(settings.crop, int(scale * (most_lr or settings.crop)))),
            scale=scale,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for (path, pixels), scale in zip(_readable(folder, settings, say), _in_turn(settings.scales), strict=False)
    ]
    if not pictures:
        raise ImageError(
            f"calibrating: no picture in {folder} can be read; expected files ending in"
            f" {', '.join(FORMAT_FROM_SUFFIX)}. Name another folder with --calib."
        )
    _tell_of_poor_sets(folder, pictures, settings, say)
    return pictures


def _in_turn(scales: tuple[float, ...]) -> Iterator[float]:
    while True:
        yield from scales


def _readable(folder: Path, settings: QuantizeSettings, say: Say) -> Iterator[tuple[Path, Pixels]]:
    if not folder.is_dir():
        raise ImageError(f"calibrating: {folder} is not a folder; name one that holds pictures with --calib.")
    found = 0
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMAT_FROM_SUFFIX):
        if found == settings.pictures:
            return
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            say(f"left out: {error}")
            continue
        found += 1
        yield path, pixels


def _original(name: str, pixels: Pixels, scale: float, crop: int) -> Original:
    missing = [max(crop - side, 0) for side in pixels.shape[:2]]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    if round(scale) > crop:
        raise SizeError(f"calibrating with {name}: scale {scale:g} leaves nothing of {crop} pixels; raise --crop.")
    return original_from_pixels(name, pixels, scale, crop)


def _tell_of_poor_sets(folder: Path, pictures: list[CalibrationPicture], settings: QuantizeSettings, say: Say) -> None:
    flat = [one.original.name for one in pictures if float(one.original.pixels.std()) < FLATTEST]
    told = None
    if len(flat) == len(pictures):
        told = f"all {len(pictures)} pictures in {folder} are of one colour, which is not representative of anything"
    elif len(pictures) < FEWEST:
        told = f"{folder} holds {len(pictures)} pictures; fewer than {FEWEST} are hardly representative"
    if told is None:
        return
    if settings.strict:
        raise ImageError(f"calibrating: {told}. Name a folder of pictures like those of the training with --calib.")
    say(f"warning: {told}")
