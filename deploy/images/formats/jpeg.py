"""JPEG, by Pillow, 8 bits per channel."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from deploy.errors import ImageError
from deploy.images.formats.by_pillow import exif_argument, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer, whole_picture
from deploy.images.iptc import resources_from_iptc
from deploy.images.notes import with_note
from deploy.images.picture import Samples

QUALITY = 95
_LONGEST_SIDE = 65_500
"""The limit of libjpeg."""
_MOST_IN_SEGMENT = 65_533
MOST_SCANS = 64
"""Of a picture: programs write about ten. Each takes as long as the whole picture of an ordinary file."""
_COUNTED_SCANS = 1000
_COEFFICIENT_BYTES = 8
"""Of each pixel, at most: 16 bits for each of four channels."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_BLOCK_BYTES = 1 << 20
_PHOTOSHOP = b"Photoshop 3.0\0"


def open_jpeg(file: BinaryIO, frame: int) -> Opened:
    """The header of a JPEG file. Made directly: Image.open takes one with a second picture inside, as phones write
    them, for an animation. Files of more scans than anybody needs are refused: each goes over all of the picture."""
    scans = _scans(file)
    if scans > MOST_SCANS:
        raise ImageError(
            f"it has {scans if scans <= _COUNTED_SCANS else f'more than {_COUNTED_SCANS}'} scans, expected at most "
            f"{MOST_SCANS}: unfolding so many takes very long. Save it again with another program."
        )
    file.seek(0)
    # A file of one scan is unfolded row by row, one of several from the coefficients of the whole picture.
    decoder_bytes = _COEFFICIENT_BYTES if scans > 1 else 0
    return opened_by_pillow(JpegImageFile(file), frame, is_lossless=False, frames=1, decoder_bytes=decoder_bytes)


def _scans(file: BinaryIO) -> int:
    """How many scans the first picture of a file has, but none beyond `_COUNTED_SCANS` + 1.

    Headers are stepped over by their lengths, coded data to the next marker: in these, no other byte follows 0xFF than
    0 and the marks of restarts (ITU-T T.81, B.1.1).
    """
    file.seek(2)
    scans = 0
    while scans <= _COUNTED_SCANS:
        head = file.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] == 0xD9:
            break
        if head[1] == 0xFF:  # a marker may have any number of these before it
            file.seek(-3, 1)
            continue
        file.seek(int.from_bytes(head[2:], "big") - 2, 1)
        if head[1] == 0xDA:
            scans += 1
            if not _seek_marker(file):
                break
    return scans


def _seek_marker(file: BinaryIO) -> bool:
    """Whether coded data end in a marker, which is read next."""
    place, left = file.tell(), b""
    while block := file.read(_BLOCK_BYTES):
        found = _MARKER.search(left + block)
        if found is not None:
            file.seek(place - len(left) + found.start())
            return True
        place += len(block)
        left = b"\xff" if block.endswith(b"\xff") else b""
    return False


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
