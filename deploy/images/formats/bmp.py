"""BMP, by Pillow, 8 bits per channel."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile

from deploy.images.formats.by_pillow import opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer, whole_picture
from deploy.images.notes import with_trailer
from deploy.images.picture import Samples

_LONGEST_SIDE = 30_000
"""Sizes are 32 bits and the file's length too: so many squared, times three bytes, stay below."""


def open_bmp(file: BinaryIO, frame: int) -> Opened:
    """The header of a BMP file."""
    file.seek(0)
    return opened_by_pillow(BmpImageFile(file), frame, is_lossless=True)


def write_bmp(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """Grey with a table of 256, or three channels."""
    pixels = whole_picture(outline, rows)
    buffer = io.BytesIO()
    dpi = outline.metadata.dpi
    image = Image.fromarray(pixels[:, :, 0] if outline.grey else pixels)
    image.save(buffer, "BMP", **({"dpi": dpi} if dpi else {}))
    encoded = buffer.getvalue()
    file.write(encoded if outline.note is None else with_trailer(encoded, outline.note))


BMP = Format(
    name="bmp",
    title="BMP",
    suffixes=(".bmp",),
    begins=lambda start: start.startswith(b"BM") and start[6:10] == bytes(4),
    open=open_bmp,
    writer=Writer(write=write_bmp, bits=(8,), keeps=frozenset({"grey", "dpi"}), longest_side=_LONGEST_SIDE),
)
