"""JPEG, by Pillow, 8 bits per channel."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from deploy.images.formats.by_pillow import exif_argument, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer, whole_picture
from deploy.images.iptc import resources_from_iptc
from deploy.images.notes import with_note
from deploy.images.picture import Samples

QUALITY = 95
_LONGEST_SIDE = 65_500
"""The limit of libjpeg."""
_MOST_IN_SEGMENT = 65_533
_PHOTOSHOP = b"Photoshop 3.0\0"


def open_jpeg(file: BinaryIO, frame: int) -> Opened:
    """The header of a JPEG file. Made directly: Image.open takes one with a second picture inside, as phones write
    them, for an animation."""
    file.seek(0)
    return opened_by_pillow(JpegImageFile(file), frame, is_lossless=False, frames=1)


def write_jpeg(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """Without chroma subsampling."""
    pixels = whole_picture(outline, rows)
    metadata = outline.metadata
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if outline.grey else pixels).save(
        buffer,
        "JPEG",
        quality=outline.quality or QUALITY,
        subsampling=0,
        **({"icc_profile": outline.profile} if outline.profile else {}),
        **({"exif": exif_argument(metadata.exif)} if metadata.exif else {}),
        **({"xmp": metadata.xmp} if metadata.xmp else {}),
        **({"dpi": tuple(max(1, round(value)) for value in metadata.dpi)} if metadata.dpi else {}),
    )
    encoded = buffer.getvalue()
    if metadata.iptc:
        encoded = _with_segment(encoded, _PHOTOSHOP + resources_from_iptc(metadata.iptc))
    file.write(encoded if outline.note is None else with_note(encoded, outline.note))


def _with_segment(encoded: bytes, data: bytes) -> bytes:
    """Photoshop's segment, APP13, after the first one; left out where it does not fit into one."""
    if len(data) > _MOST_IN_SEGMENT:
        return encoded
    first = 4 + int.from_bytes(encoded[4:6], "big")
    return encoded[:first] + b"\xff\xed" + struct.pack(">H", len(data) + 2) + data + encoded[first:]


JPEG = Format(
    name="jpeg",
    title="JPEG",
    suffixes=(".jpg", ".jpeg"),
    begins=lambda start: start.startswith(b"\xff\xd8\xff"),
    open=open_jpeg,
    writer=Writer(
        write=write_jpeg,
        bits=(8,),
        keeps=frozenset({"grey", "profile", "exif", "xmp", "iptc", "dpi", "quality"}),
        longest_side=_LONGEST_SIDE,
        is_lossless=False,
    ),
)
