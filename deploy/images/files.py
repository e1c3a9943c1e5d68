"""Pictures from files and into files: PNG, JPEG and WebP.

What a picture is taken for depends on its content, not on its name. Everything arrives as 8-bit sRGB, in
the orientation that EXIF asks for. Grey, palette and CMYK are converted, and colours with a profile of their own;
of 16 bits per channel the upper eight are kept; what is changed so or left behind, `ReadImage.changes` says. An
alpha channel is accepted where it is opaque everywhere and refused where it is not, because dropping it would
change the picture.

What is written appears under its name complete or not at all, and the same pixels give the same bytes.
"""

import io
import stat
import struct
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deploy.errors import ImageError
from deploy.foreign.places import refusal_of_address
from deploy.images.metadata import losses
from deploy.images.notes import with_note
from deploy.images.profiles import srgb_from_image
from engines.new_files import new_file

Pixels = NDArray[np.uint8]

MAX_PIXELS = 250_000_000
"""Largest picture read by default: 750 MB as RGB. A guard against files made to exhaust memory."""

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
"""What Pillow calls pictures of one channel, with or without alpha."""

FORMAT_FROM_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65_500, "WEBP": 16_383}
"""What the formats can hold; for JPEG the limit of libjpeg."""

# All that Pillow's decoders raise on damaged files, beside OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the file held before it became 8-bit RGB: format, Pillow's mode, bits per channel, EXIF orientation."""

    format: str
    mode: str
    bits: int
    orientation: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadImage:
    """A picture read from `path`: pixels are uint8 (H, W, 3) sRGB, upright.

    `changes`: in words, what of the file is converted or does not reach a result.
    """

    path: Path
    pixels: Pixels
    origin: Origin
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as users say it."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def is_grey(self) -> bool:
        """Whether the file has one channel of colour, so that a result of its kind has one too."""
        return self.origin.mode in GREY_MODES


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> ReadImage:
    """The still picture in a PNG, JPEG or WebP file, as upright 8-bit RGB."""
    path = Path(path)
    with _open_regular(path) as file, warnings.catch_warnings():
        # Pillow warns about damaged metadata; what matters here is whether the pixels can be read.
        warnings.simplefilter("ignore")
        try:
            image, bits = _decoder(path, file)
            _check_still(path, image, max_pixels)
            image.load()
            orientation = _orientation(image)
            upright = image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image
            colours = opaque_in_8_bits(upright, image.info.get("transparency"))
            if colours is None:
                raise ImageError(
                    f"reading {path}: it has transparent pixels, and transparency cannot be carried through yet. "
                    "Flatten the picture onto a background first."
                )
            changes = losses(image, bits)
            colours, conversion = srgb_from_image(colours, image.info.get("icc_profile"))
            pixels = np.array(colours.convert("RGB"))
        except _DAMAGE as error:
            raise _damaged(path, error) from error
    origin = Origin(format=str(image.format), mode=image.mode, bits=bits, orientation=orientation)
    said = [*([conversion] if conversion else []), *changes]
    return ReadImage(path=path, pixels=pixels, origin=origin, changes=tuple(said))


def opaque_in_8_bits(image: Image.Image, key: object) -> Image.Image | None:
    """The picture as L, RGB or CMYK, without its alpha channel; None if any pixel is transparent.

    `key` is the colour or table that marks transparency in files without an alpha channel. Of 16 bits the upper
    eight are kept.
    """
    if image.mode.startswith("I"):  # 16-bit grey: older Pillow "I", newer "I;16"
        values = np.asarray(image)
        opaque = not (isinstance(key, int) and bool((values == key).any()))
        return Image.fromarray(np.clip(values >> 8, 0, 255).astype(np.uint8)) if opaque else None
    if "A" in image.getbands() or key is not None:
        if image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
            return None
        image = image.convert("L" if image.mode in GREY_MODES else "RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode in GREY_MODES else "RGB")


def read_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of the upright picture in a file, from its header alone."""
    path = Path(path)
    with _open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image, _ = _decoder(path, file)
            width, height = image.size
            return (height, width) if _orientation(image) > 4 else (width, height)
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def write_image(pixels: Pixels, path: str | Path, *, jpeg_quality: int = 95, note: bytes | None = None) -> None:
    """`path` holds the picture, in the format its suffix names, replacing what was there.

    pixels: uint8 (H, W, 3), or (H, W) for a grey picture of one channel (in WebP, which has no such pictures, of three
    equal ones). PNG and WebP keep every pixel; JPEG is written without chroma subsampling. `note` is put into the
    file as deploy.images.notes says.
    """
    path = Path(path)
    _check_pixels(path, pixels)
    check_output(path, (pixels.shape[1], pixels.shape[0]))
    encoded = encode_image(pixels, FORMAT_FROM_SUFFIX[path.suffix.lower()], jpeg_quality=jpeg_quality)
    with new_file(path) as file:
        file.write(encoded if note is None else with_note(encoded, note))


def encode_image(pixels: Pixels, format: str, *, jpeg_quality: int = 95) -> bytes:
    """The bytes of a file in `format` (PNG, JPEG or WEBP) that holds the uint8 (H, W, 3) or (H, W) picture."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if format == "PNG":
        image.save(buffer, "PNG")
    elif format == "JPEG":
        image.save(buffer, "JPEG", quality=jpeg_quality, subsampling=0)
    else:
        image.save(buffer, format, lossless=True)
    return buffer.getvalue()


def check_output(path: str | Path, size: tuple[int, int] | None = None) -> None:
    """Nothing known stands in the way of writing a picture to `path`; to be asked before expensive work.

    size: (width, height), where it is known already.
    """
    path = Path(path)
    check_format(path, size)
    check_folder(path)
    if path.is_dir():
        raise ImageError(f"writing {path}: there is a folder of that name. Choose another name.")


def check_format(path: Path, size: tuple[int, int] | None = None) -> None:
    """The suffix of `path` names a format that can be written, and that holds (width, height) `size` if it is known."""
    if path.suffix.lower() not in FORMAT_FROM_SUFFIX:
        folder = "" if path.suffix else ", or end the name with / if it is a folder"
        raise ImageError(
            f"writing {path}: the suffix {path.suffix!r} names no format that can be written; "
            f"use one of {', '.join(FORMAT_FROM_SUFFIX)}{folder}."
        )
    limit = LONGEST_SIDE[FORMAT_FROM_SUFFIX[path.suffix.lower()]]
    if size is not None and max(size) > limit:
        raise ImageError(
            f"writing {path}: the picture is {size[0]}x{size[1]}, but this format holds at most {limit} pixels "
            "a side; write PNG."
        )


def check_folder(path: Path) -> None:
    """The folder of `path` is there, and files can be made in it."""
    try:
        if not path.parent.is_dir():
            raise ImageError(f"writing {path}: the folder {path.parent} does not exist. Create it first.")
        # Only trying tells: permission bits do not know of read-only file systems and mounts.
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ImageError(
            f"writing {path}: the folder {path.parent} cannot be written to ({error.strerror}). "
            "Change its permissions or choose another folder."
        ) from error


def make_folder(folder: Path) -> None:
    """The folder is there, with those above it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"making the folder {folder}: {error.strerror}. Choose another with -o.") from error


def _open_regular(path: Path) -> BinaryIO:
    """The file, open for reading; pipes and devices are refused, as opening them may block for ever."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"reading {path}: this is a folder, expected a picture. Name the file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"reading {path}: this is not a regular file, expected a picture. Copy it first.")
        if status.st_size == 0:
            raise ImageError(f"reading {path}: the file is empty. Get it again from its source.")
        return path.open("rb")
    except FileNotFoundError as error:
        if (address := refusal_of_address(path)) is not None:
            raise ImageError(address) from error
        raise ImageError(f"reading {path}: there is no such file. Check the name and the folder.") from error
    except OSError as error:
        raise ImageError(
            f"reading {path}: {error.strerror}. Check the permissions of the file and its folders."
        ) from error


def _decoder(path: Path, file: BinaryIO) -> tuple[ImageFile.ImageFile, int]:
    """Pillow's reader for the file's content, and its bits per channel.

    The reader is made directly rather than by Image.open, whose own size limit can be changed only for the
    whole process, and which takes a JPEG with a second picture inside (as phones write them) for an animation.
    """
    start = file.read(26)
    file.seek(0)
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        # Pillow keeps eight bits of 16-bit colour without saying so: the header's bit depth does.
        return PngImageFile(file), start[24] if len(start) > 24 else 8
    if start.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(file), 8
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return WebPImageFile(file), 8
    raise ImageError(
        f"reading {path}: this is not a PNG, JPEG or WebP picture by its content, whatever its name says. "
        "Convert it to one of these."
    )


def _damaged(path: Path, error: Exception) -> ImageError:
    return ImageError(f"reading {path}: the file is damaged or cut short ({error}). Get it again from its source.")


def _check_still(path: Path, image: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"reading {path}: it has {width}x{height} = {width * height} pixels, the limit is {max_pixels}. "
            "Raise the limit with `max_pixels` if you trust the file and have the memory."
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            f"reading {path}: it is an animation of {frames} frames, expected a still picture. "
            "Save the frames as single files."
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGE:
        return 1
    return value if value in _TRANSPOSE else 1


def _check_pixels(path: Path, pixels: Pixels) -> None:
    grey = pixels.ndim == 2
    if pixels.dtype != np.uint8 or 0 in pixels.shape or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ImageError(
            f"writing {path}: expected 8-bit pixels of shape (height, width, 3) or (height, width), found "
            f"{pixels.dtype} of shape {tuple(pixels.shape)}."
        )
