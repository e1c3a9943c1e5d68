"""The pictures that calibration starts from: training-like ones, cut or padded to one size and made small."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import ImageError, SizeError
from deploy.images.files import FORMAT_FROM_SUFFIX, read_image
from deploy.int8.settings import QuantizeSettings
from deploy.measure.evaluation.originals import Original, Pixels, original_from_pixels

Say = Callable[[str], None]

FLATTEST = 2.0
"""Standard deviation, in levels of 255, below which a picture has nothing to calibrate with."""

FEWEST = 4
"""Pictures below which a set is called small."""

NAMED = 3
"""Of the pictures that something is wrong with; further ones are counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationPicture:
    """One picture at one scale. `sha256` is that of its file."""

    original: Original
    scale: float
    sha256: str
    too_small: tuple[int, int] | None = None
    """(width, height) of a file that was continued by its mirror image; None: it was not."""

    @property
    def mostly_mirrored(self) -> bool:
        """Whether less than half of its width or height is the file's own."""
        return self.too_small is not None and 2 * min(self.too_small) < max(self.original.size)

    def describe(self) -> str:
        """The name and size of the file."""
        width, height = self.too_small or self.original.whole or self.original.size
        return f"{self.original.name} ({width}x{height})"


def calibration_pictures(
    folder: Path, settings: QuantizeSettings, say: Say, most_lr: int | None = None
) -> list[CalibrationPicture]:
    """The pictures of a folder in the order of their names, each at one of the scales in turn.

    Files that cannot be read are named and passed over; smaller pictures are continued by their mirror image.
    most_lr: no side of the low-resolution pictures is larger; crops at small scales are smaller then.
    """
    pictures = [
        _picture(path, pixels, scale, min(settings.crop, int(scale * (most_lr or settings.crop))))
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
    count = 0
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMAT_FROM_SUFFIX):
        if count == settings.pictures:
            return
        try:
            pixels = read_image(path).pixels
        except ImageError as error:
            say(f"left out: {error}")
            continue
        count += 1
        yield path, pixels


def _picture(path: Path, pixels: Pixels, scale: float, crop: int) -> CalibrationPicture:
    height, width = pixels.shape[:2]
    missing = [max(crop - side, 0) for side in (height, width)]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    if round(scale) > crop:
        raise SizeError(f"calibrating with {path.name}: scale {scale:g} leaves nothing of {crop} pixels; raise --crop.")
    return CalibrationPicture(
        original=original_from_pixels(path.name, pixels, scale, crop),
        scale=scale,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        too_small=(width, height) if any(missing) else None,
    )


def _tell_of_poor_sets(folder: Path, pictures: list[CalibrationPicture], settings: QuantizeSettings, say: Say) -> None:
    faults = list(_faults(folder, pictures, settings))
    refused = [fault for fault, refuse in faults if refuse]
    if settings.strict and refused:
        more = settings.pictures is not None and settings.pictures < FEWEST
        raise ImageError(
            f"calibrating: {'; '.join(refused)}. {'Raise --pictures, or name' if more else 'Name'} a folder of pictures"
            " like those of the training with --calib."
        )
    for fault, _ in faults:
        say(f"warning: {fault}")


def _faults(
    folder: Path, pictures: Sequence[CalibrationPicture], settings: QuantizeSettings
) -> Iterator[tuple[str, bool]]:
    """What is wrong with a set, and whether --strict refuses it for that."""
    small = [picture for picture in pictures if picture.too_small]
    if small:
        fault = f"{_named(small)} smaller than what is cut out (--crop {settings.crop}), and continued by mirroring"
        yield fault, any(picture.mostly_mirrored for picture in small)
    flat = [picture for picture in pictures if float(picture.original.pixels.std()) < FLATTEST]
    if 1 < len(flat) == len(pictures):
        fault = f"all {len(flat)} pictures of {folder} are of one colour, which is not representative of anything"
        yield f"{fault}: {_listed(flat)}", True
    elif flat:
        yield f"{_named(flat)} of one colour, which is not representative of anything, but calibrated on", True
    if len(pictures) < FEWEST:
        count, verb = ("1 picture", "is") if len(pictures) == 1 else (f"{len(pictures)} pictures", "are")
        yield f"only {count} of {folder} {verb} used; fewer than {FEWEST} are hardly representative", True


def _named(pictures: Sequence[CalibrationPicture]) -> str:
    return f"{_listed(pictures)} {'is' if len(pictures) == 1 else 'are'}"


def _listed(pictures: Sequence[CalibrationPicture]) -> str:
    """The smallest first, with their sizes."""
    ordered = sorted(pictures, key=lambda picture: min(picture.too_small or picture.original.size))
    names = [picture.describe() for picture in ordered[:NAMED]]
    if len(ordered) > NAMED:
        names.append(f"{len(ordered) - NAMED} more")
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
