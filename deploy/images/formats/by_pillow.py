"""What the formats share that Pillow reads and writes, all of them of 8 bits per channel."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from deploy.errors import ImageError
from deploy.images.exif import exif_of
from deploy.images.formats.contract import DAMAGE, Opened, Outline, whole_picture
from deploy.images.iptc import iptc_from_resources
from deploy.images.picture import Metadata, Samples
from deploy.images.sizes import Size

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
"""What Pillow calls pictures of one channel, with or without alpha."""

MOST_OF_PILLOW = 2 * 89_478_485
"""Pixels beyond which Pillow's own readers of some formats refuse, unless a setting of the whole process is changed."""

_MOST_UNFOLDED = 1 << 31
"""Pixels of all frames up to the one that is read, which takes some fifteen seconds."""
_STRIP_PIXELS = 1 << 19
_WIDE_MODES = 4
"""Bytes in which Pillow keeps a pixel of more than one channel, or of one with more than 8 bits."""

_EXIF_LABEL = b"Exif\0\0"
_IPTC = 0x0404


def opened_by_pillow(
    image: ImageFile.ImageFile,
    frame: int,
    *,
    is_lossless: bool,
    frames: int | None = None,
    decoder_bytes: int = 0,
) -> Opened:
    """Pillow's reader, opened on a file of 8 bits per channel.

    decoder_bytes: of each pixel, what the decoder takes for itself while it unfolds the picture.
    """
    metadata = metadata_of(image)
    exif = exif_of(metadata.exif)
    refuse_long_way(Size.from_user(image.size), frame)

    def decode() -> Samples:
        if frame:
            image.seek(frame)
        image.load()
        return samples_of(image)

    return Opened(
        size=Size.from_user(image.size),
        mode=mode_of(image),
        bits=8,
        decode=decode,
        decoding_bytes=decoding_bytes(mode_of(image), decoder_bytes),
        frames=getattr(image, "n_frames", 1) if frames is None else frames,
        orientation=exif.orientation if exif else 1,
        is_lossless=is_lossless,
        profile=image.info.get("icc_profile") or None,
        metadata=metadata,
    )


def refuse_long_way(size: Size, frame: int) -> None:
    """ImageError for a frame of an animation that lies behind so many others, all unfolded to come to it."""
    if frame * math.prod(size) > _MOST_UNFOLDED:
        raise ImageError(
            f"its frame {frame} lies behind as many others of {size} pixels, and unfolding them takes very long. Take "
            "the animation apart with another program, and enlarge its pictures."
        )


def decoding_bytes(mode: str, decoder_bytes: int = 0) -> int:
    """Of each pixel, the memory that Pillow takes while it unfolds a picture and its samples are copied from there."""
    return (1 if mode in ("L", "P") else _WIDE_MODES) + max(decoder_bytes, 4 if mode == "P" else len(mode))


def mode_of(image: Image.Image) -> str:
    """L, LA, RGB, RGBA, CMYK or P: what the file holds."""
    if image.mode in ("P", "PA"):
        return "P"
    if image.mode == "CMYK":
        return "CMYK"
    return ("L" if image.mode in GREY_MODES else "RGB") + ("A" if has_alpha(image) else "")


def has_alpha(image: Image.Image) -> bool:
    """Whether it has a channel, a colour or a table that marks transparency."""
    return bool({"A", "a"} & set(image.getbands())) or image.info.get("transparency") is not None


def samples_of(image: Image.Image) -> Samples:
    """uint8 (H, W, C) of an image that is loaded: 1 to 4 channels, four without alpha being CMYK.

    Some rows at a time: Pillow's copies of all of them would take as much memory again, three times over.
    """
    width, height = image.size
    at_once = max(1, _STRIP_PIXELS // max(1, width))
    whole: Samples | None = None
    for top in range(0, height, at_once):
        end = min(top + at_once, height)
        strip = _samples_of_strip(image.crop((0, top, width, end)))
        if whole is None:
            whole = np.empty((height, width, strip.shape[2]), np.uint8)
        whole[top:end] = strip
    return np.empty((height, width, 1), np.uint8) if whole is None else whole


def _samples_of_strip(image: Image.Image) -> Samples:
    if image.mode == "CMYK":
        return np.asarray(image)
    alpha = has_alpha(image)
    if image.mode in GREY_MODES:
        if not alpha:
            return np.asarray(image.convert("L"))[:, :, None]
        return np.asarray(image.convert("RGBA"))[:, :, [0, 3]]
    return np.asarray(image.convert("RGBA" if alpha else "RGB"))


def metadata_of(image: ImageFile.ImageFile) -> Metadata:
    """What Pillow found beside the pixels."""
    info = image.info
    exif = info.get("exif")
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp")
    return Metadata(
        exif=exif.removeprefix(_EXIF_LABEL) if isinstance(exif, bytes) and exif else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        iptc=_iptc(info.get("photoshop")),
        dpi=_dpi(image),
        comment=bool(info.get("comment") or info.get("Comment")),
    )


def exif_argument(block: bytes) -> bytes:
    """An EXIF block as Pillow's writers want it."""
    return _EXIF_LABEL + block


def encoded_without_grey(outline: Outline, rows: Iterator[Samples], name: str, **options: Any) -> bytes:
    """A whole picture in a format that has no grey ones: three equal channels stand for one."""
    pixels = whole_picture(outline, rows)
    if outline.grey:
        pixels = pixels[:, :, [0, 0, 0, 1] if outline.alpha else [0, 0, 0]]
    metadata = outline.metadata
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer,
        name,
        **options,
        **({"icc_profile": outline.profile} if outline.profile else {}),
        **({"exif": exif_argument(metadata.exif)} if metadata.exif else {}),
        **({"xmp": metadata.xmp} if metadata.xmp else {}),
    )
    return buffer.getvalue()


def _iptc(photoshop: Any) -> bytes | None:
    """Pillow takes Photoshop's blocks of a JPEG apart; elsewhere they are bytes."""
    if isinstance(photoshop, dict):
        found = photoshop.get(_IPTC)
        return found if isinstance(found, bytes) and found else None
    return iptc_from_resources(photoshop) if isinstance(photoshop, bytes) else None


def _dpi(image: ImageFile.ImageFile) -> tuple[float, float] | None:
    """The resolution, if the file states one: Pillow invents 72 for a JPEG with EXIF and none."""
    dpi = image.info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2):
        exif = exif_of((image.info.get("exif") or b"").removeprefix(_EXIF_LABEL))
        if exif is None or exif.dpi is None:
            return None
    try:
        across, down = float(dpi[0]), float(dpi[1])
    except (*DAMAGE, struct.error):
        return None
    return (across, down) if all(math.isfinite(value) and value > 0 for value in (across, down)) else None
