"""WebP, by Pillow, 8 bits per channel; without loss unless a quality is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from PIL.WebPImagePlugin import WebPImageFile

from deploy.images.formats.by_pillow import encoded_without_grey, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer
from deploy.images.notes import with_note
from deploy.images.picture import Samples

_LONGEST_SIDE = 16_383


def open_webp(file: BinaryIO, frame: int) -> Opened:
    """The header of a WebP file."""
    file.seek(0)
    is_lossless = _is_lossless(file)
    file.seek(0)
    return opened_by_pillow(WebPImageFile(file), frame, is_lossless=is_lossless)


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
    writer=Writer(
        write=write_webp,
        bits=(8,),
        keeps=frozenset({"alpha", "profile", "exif", "xmp", "quality"}),
        longest_side=_LONGEST_SIDE,
    ),
)
