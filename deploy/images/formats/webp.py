"""WebP, by Pillow, 8 bits per channel; without loss unless a quality is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import BinaryIO

from PIL.WebPImagePlugin import WebPImageFile

from deploy.errors import ImageError
from deploy.images.formats.by_pillow import MOST_OF_PILLOW, encoded_without_grey, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer
from deploy.images.notes import with_note
from deploy.images.picture import Samples
from deploy.images.sizes import Size

_LONGEST_SIDE = 16_383
_DECODER_BYTES = 16
"""Of each pixel: two canvases of the library, a frame as bytes, and Pillow's copy."""


def open_webp(file: BinaryIO, frame: int) -> Opened:
    """The header of a WebP file."""
    canvas = canvas_of_webp(file)
    if canvas is not None and prod(canvas) > MOST_OF_PILLOW:
        raise ImageError(
            f"it has {canvas} = {prod(canvas)} pixels, and WebP is read up to {MOST_OF_PILLOW}. Convert it to PNG or "
            "TIFF."
        )
    file.seek(0)
    is_lossless = _is_lossless(file)
    file.seek(0)
    return opened_by_pillow(WebPImageFile(file), frame, is_lossless=is_lossless, decoder_bytes=_DECODER_BYTES)


def canvas_of_webp(file: BinaryIO) -> Size | None:
    """The size that the first chunk says (RFC 9649, sections 2.5 to 2.7)."""
    file.seek(12)
    kind, start = file.read(8)[:4], file.read(10)
    if kind == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (4, 7))
        return Size(height, width)
    if kind == b"VP8L":
        both = int.from_bytes(start[1:5], "little")
        return Size((both >> 14 & 0x3FFF) + 1, (both & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = (int.from_bytes(start[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return Size(height, width)
    return None


def _is_lossless(file: BinaryIO) -> bool:
    """Whether the first picture is of the kind VP8L."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        size = int.from_bytes(head[4:], "little")
        file.seek(16 if head[:4] == b"ANMF" else size + size % 2, 1)
    return False


def write_webp(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """A grey picture is written as three equal channels."""
    encoded = encoded_without_grey(
        outline,
        rows,
        "WEBP",
        lossless=outline.quality is None,
        quality=80 if outline.quality is None else outline.quality,
        exact=True,  # colours stay under transparent pixels too
    )
    file.write(encoded if outline.note is None else with_note(encoded, outline.note))


WEBP = Format(
    name="webp",
    title="WebP",
    suffixes=(".webp",),
    begins=lambda start: start.startswith(b"RIFF") and start[8:12] == b"WEBP",
    open=open_webp,
    canvas=canvas_of_webp,
    writer=Writer(
        write=write_webp,
        bits=(8,),
        keeps=frozenset({"alpha", "profile", "exif", "xmp", "quality"}),
        longest_side=_LONGEST_SIDE,
    ),
)
