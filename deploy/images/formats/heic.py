"""HEIC, as phones take it, by pillow-heif, a package of the extra `images`: read only, with all its bits."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from deploy.images.boxes import brands_of, colours_of_box, colours_taken_as_srgb
from deploy.images.formats.contract import Format, Opened, missing
from deploy.images.picture import Metadata, Samples
from deploy.images.sizes import Size

_START = 64 << 10
"""Bytes in which the description of the pictures stands, before their data."""
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_CHANNELS = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}


def open_heic(file: BinaryIO, frame: int) -> Opened:
    """The header of a HEIC file. Its pixels come upright, whatever its EXIF says."""
    try:
        import pillow_heif
    except ImportError as error:
        raise missing("pillow-heif", "HEIC") from error
    del frame  # the picture that the file calls its first
    file.seek(0)
    start = file.read(_START)
    file.seek(0)
    opened = pillow_heif.open_heif(file, convert_hdr_to_8bit=False, bgr_mode=False)
    image: Any = opened[opened.primary_index]
    bits = int(image.info.get("bit_depth", 8))
    mode = image.mode.split(";")[0]

    def decode() -> Samples:
        return _samples(image, bits)

    exif = image.info.get("exif")
    profile = image.info.get("icc_profile") or None
    colours = colours_of_box(start) if profile is None else None
    told = [colours_taken_as_srgb(*colours)] if colours else []
    told += [f"it has {len(opened)} pictures, of which the first is taken"] if len(opened) > 1 else []
    return Opened(
        size=Size.from_user(image.size),
        mode=mode.upper(),
        bits=bits,
        decode=decode,
        frames=1,
        premultiplied=mode.endswith("a"),
        profile=profile,
        changes=tuple(change for change in told if change),
        metadata=Metadata(
            exif=exif.removeprefix(b"Exif\0\0") if exif else None,
            xmp=image.info.get("xmp") or None,
        ),
    )


def _samples(image: Any, bits: int) -> Samples:
    """uint8 or uint16 (H, W, C). The library leaves 10 and 12 bits in the upper ones of 16, below full light."""
    pixels = np.asarray(image)
    pixels = pixels.reshape(*Size.from_user(image.size), -1)
    if pixels.dtype == np.uint8:
        return pixels
    highest = (1 << bits) - 1
    scaled: Samples = np.rint((pixels >> (16 - bits)) * (65535.0 / highest)).astype(np.uint16)
    return scaled


HEIC = Format(
    name="heic",
    title="HEIC",
    suffixes=(".heic", ".heif"),
    begins=lambda start: bool(_BRANDS & brands_of(start)),
    open=open_heic,
)
