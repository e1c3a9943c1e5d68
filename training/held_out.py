"""The held-out originals: twelve photographs that no training saw, and by which rule crops are taken of them.

Three lie in the wheels of scikit-image and scikit-learn. Nine are wallpapers of Debian's lomiri-wallpapers-16.04
(20.04.0-2), whose authors allow to pass them on; a folder that holds them is named.

1. A photograph is turned upright, converted to sRGB and, above 1024 pixels, reduced to that long edge (Lanczos).
2. It is reduced further, by the least of REDUCTIONS, until it is crisp at the pixel level: until its `crispness` is at
   least CRISP. Cameras and enlargements leave pictures that have no detail at that level: nothing could be restored.
3. It is divided into as many squares of 128 pixels as fit, evenly spaced from border to border. They are ranked by how
   much detail a reduction by four takes away. Those with less than a quarter of the first one's are sky or out of
   focus and left out. The first is taken, and the middle one of those that remain.

Nothing that a model made of them was looked at.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.errors import MissingPackage, SizeError
from deploy.images.files import read_image
from deploy.images.resize import resize
from training.photographs import Photograph, held_out_photographs, read_photograph

Pixels = NDArray[np.uint8]
Luma = NDArray[np.float32]
LANCZOS = Image.Resampling.LANCZOS

CC_BY_4 = "CC BY 4.0"
BERASATEGI = f"{CC_BY_4}, Aitzol Berasategi, 2018"
FREESPACE = f'{CC_BY_4}, Trevor "Freespace", 2018'
DEBIAN = "lomiri-wallpapers-16.04"

WALLPAPERS = (
    Photograph(name="aitzgorri", file="aitzgorri", package=DEBIAN, licence=BERASATEGI, held_out=True),
    Photograph(name="friends", file="friends", package=DEBIAN, licence=BERASATEGI, held_out=True),
    Photograph(name="life", file="life", package=DEBIAN, licence=BERASATEGI, held_out=True),
    Photograph(name="picosdeeuropa", file="picosdeeuropa", package=DEBIAN, licence=BERASATEGI, held_out=True),
    Photograph(name="picture0b", file="Picture_0B", package=DEBIAN, licence=FREESPACE, held_out=True),
    Photograph(name="picture1a", file="Picture_1A", package=DEBIAN, licence=FREESPACE, held_out=True),
    Photograph(
        name="seeding", file="seeding", package=DEBIAN, licence="CC0 1.0, Clemens Engelhardt, 2018", held_out=True
    ),
    Photograph(name="sunset", file="sunset", package=DEBIAN, licence=BERASATEGI, held_out=True),
    Photograph(name="wine", file="Wine", package=DEBIAN, licence=f"{CC_BY_4}, Jakub Mede, 2018", held_out=True),
)
"""`file` without its ending: any format will do."""

WALLPAPER_FOLDER = Path("/usr/share/backgrounds")
"""Where Debian puts them."""
LONG_EDGE = 1024
REDUCTIONS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0)
CRISP = 0.7
SIDE = 128
LEAST_DETAIL = 0.25
"""Of a square, as a share of the most detailed one's."""


def crispness(picture: Pixels) -> float:
    """The contrast of the finest octave over that of the next: about 1 for a crisp photograph, less for a soft one.

    The amplitudes of natural pictures fall as one over the frequency, so every octave has about the same contrast (the
    finest 1.2 times as much). An octave is what halving and enlarging again (antialiased bicubic) takes of the luma.
    """
    finest, half = _octave(_luma(picture))
    return float(finest.std() / max(float(_octave(half)[0].std()), 1e-6))


def crisp_reduction(picture: Pixels) -> tuple[float, Pixels]:
    """The picture reduced by the least factor that makes it crisp, and that factor; by the largest if none does."""
    for factor in REDUCTIONS:
        size = round(picture.shape[1] / factor), round(picture.shape[0] / factor)
        if min(size) < SIDE:
            break
        reduced = picture if factor == 1 else np.array(Image.fromarray(picture).resize(size, LANCZOS))
        result = factor, reduced
        if crispness(reduced) >= CRISP:
            return result
    if min(picture.shape[:2]) < SIDE:
        raise SizeError(
            f"A held-out photograph needs {SIDE} pixels a side, found {picture.shape[1]}x{picture.shape[0]}."
        )
    return result


def chosen_crops(picture: Pixels) -> list[Pixels]:
    """The square with the most detail that a reduction by four takes away, and the middle one of those with some."""
    tops, lefts = (_starts(side - SIDE, side // SIDE) for side in picture.shape[:2])
    squares = [picture[top : top + SIDE, left : left + SIDE] for top in tops for left in lefts]
    detail = [_lost_by_four(square) for square in squares]
    ranked = sorted(range(len(squares)), key=lambda index: -detail[index])
    kept = [index for index in ranked if detail[index] >= LEAST_DETAIL * detail[ranked[0]]]
    return [squares[kept[place]] for place in dict.fromkeys((0, len(kept) // 2))]


def held_out_pictures(folder: Path = WALLPAPER_FOLDER) -> dict[str, Pixels]:
    """The crops by file name, those of the wallpapers in `folder` and those of the wheels' photographs."""
    pictures = {photograph.name: read_photograph(photograph) for photograph in held_out_photographs()}
    pictures |= {photograph.name: read_wallpaper(photograph, folder) for photograph in WALLPAPERS}
    return {
        f"{name}-crop{number}.png": crop
        for name, picture in sorted(pictures.items())
        for number, crop in enumerate(chosen_crops(crisp_reduction(picture)[1]), 1)
    }


def read_wallpaper(photograph: Photograph, folder: Path) -> Pixels:
    """A wallpaper upright, in sRGB, its long edge at most 1024 pixels."""
    found = sorted(path for path in folder.glob(f"{photograph.file}.*") if path.is_file())
    if not found:
        raise MissingPackage(
            f"The photograph {photograph.file} is not in {folder}; install Debian's package {DEBIAN}, or name a folder "
            "that has its pictures with --wallpapers."
        )
    pixels = read_image(found[0]).pixels
    height, width = pixels.shape[:2]
    scale = LONG_EDGE / max(height, width)
    if scale >= 1:
        return pixels
    return np.array(Image.fromarray(pixels).resize((round(width * scale), round(height * scale)), LANCZOS))


def _luma(picture: Pixels) -> Luma:
    return picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _octave(luma: Luma) -> tuple[Luma, Luma]:
    """What halving takes away, and the half."""
    height, width = luma.shape
    half = resize(luma, ((height + 1) // 2, (width + 1) // 2))
    return luma - resize(half, (height, width)), half


def _lost_by_four(picture: Pixels) -> float:
    luma = _luma(picture)
    return float((luma - resize(resize(luma, (SIDE // 4, SIDE // 4)), (SIDE, SIDE))).std())


def _starts(last: int, count: int) -> list[int]:
    """`count` evenly spaced places from 0 to `last`; a single one lies in the middle."""
    return [last // 2] if count == 1 else [round(index * last / (count - 1)) for index in range(count)]
