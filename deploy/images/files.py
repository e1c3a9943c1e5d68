"""Pictures as 8-bit RGB from files and into files, for what calibrates, measures and shows.

`infer` keeps more of a picture: see deploy.images.reading and deploy.images.writing, on which this stands.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError
from deploy.images.formats.contract import Outline
from deploy.images.formats.table import FORMATS, SUFFIXES, format_of_suffix
from deploy.images.picture import Origin
from deploy.images.profiles import space_of
from deploy.images.reading import MAX_PIXELS, read_picture
from deploy.images.sizes import Size
from deploy.images.view import srgb_in_8_bits
from deploy.images.writing import check_folder, check_format, write_picture

Pixels = NDArray[np.uint8]

READ_SUFFIXES = SUFFIXES.keys()
"""Of files that are taken for pictures in a folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImage:
    """A picture read from `path`: pixels are uint8 (H, W, 3) sRGB, upright.

    `changes`: in words, what of the file is converted or left out.
    """

    path: Path
    pixels: Pixels
    origin: Origin
    is_grey: bool = False
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Of the picture."""
        return Size.of(self.pixels)


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ReadImage:
    """The picture in a file as upright 8-bit RGB; transparency is refused, not dropped."""
    path = Path(path)
    picture = read_picture(path, max_pixels=max_pixels)
    if picture.alpha is not None:
        raise ImageError(
            f"reading {path}: it has transparent pixels, which have no place here. Flatten the picture onto a "
            "background first."
        )
    space = space_of(picture.profile, grey=picture.is_grey)
    changes = [f"colours are converted from {space.name} to sRGB"] if space is not None else []
    changes += picture.changes
    if picture.bits > 8:
        changes.append(f"{'floating-point numbers' if picture.bits == 32 else '16 bits per channel'} become 8")
    return ReadImage(
        path=path,
        pixels=srgb_in_8_bits(picture),
        origin=picture.origin,
        is_grey=picture.is_grey,
        changes=tuple(changes),
    )


def write_image(pixels: Pixels, path: str | Path, *, quality: int | None = None, note: bytes | None = None) -> None:
    """`path` holds the picture, in the format its suffix names, replacing what was there.

    pixels: uint8 (H, W, 3), or (H, W) for a grey picture of one channel. quality: 1 to 100 for formats that have one,
    None: their usual. `note` is put into the file as deploy.images.notes says.
    """
    path = Path(path)
    _check_pixels(path, pixels)
    check_output(path, Size.of(pixels))
    record = format_of_suffix(path)
    assert record is not None  # checked
    write_picture(path, record, _outline(pixels, quality, note), [_channels(pixels)])


def encode_image(pixels: Pixels, format: str) -> bytes:
    """The bytes of a file in `format` (by its name in the table) that holds the uint8 (H, W, 3) or (H, W) picture."""
    buffer = io.BytesIO()
    writer = FORMATS[format.lower()].writer
    assert writer is not None
    writer.write(buffer, _outline(pixels, None, None), iter([_channels(pixels)]))
    return buffer.getvalue()


def check_output(path: str | Path, size: Size | None = None) -> None:
    """Nothing known stands in the way of writing a picture to `path`; to be asked before expensive work.

    size: of the picture, where it is known already.
    """
    path = Path(path)
    check_format(path, size)
    check_folder(path)
    if path.is_dir():
        raise ImageError(f"writing {path}: there is a folder of that name. Choose another name.")


def make_folder(folder: Path) -> None:
    """The folder is there, with those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"making the folder {folder}: {error.strerror}. Choose another with -o.") from error


def _outline(pixels: Pixels, quality: int | None, note: bytes | None) -> Outline:
    return Outline(size=Size.of(pixels), grey=pixels.ndim == 2, quality=quality, note=note)


def _channels(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, None] if pixels.ndim == 2 else pixels)


def _check_pixels(path: Path, pixels: Pixels) -> None:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or 0 in pixels.shape or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ImageError(
            f"writing {path}: expected 8-bit pixels of shape (height, width, 3) or (height, width), found "
            f"{pixels.dtype} of shape {tuple(pixels.shape)}."
        )
