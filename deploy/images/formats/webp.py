"""WebP, by Pillow, 8 bits per channel; without loss unless a quality is asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from deploy.images.formats.by_pillow import exif_argument, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer, whole_picture
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
    """WebP has no grey pictures: three equal channels stand for one."""
    pixels = whole_picture(outline, rows)
    if outline.grey:
        pixels = pixels[:, :, [0, 0, 0, 1] if outline.alpha else [0, 0, 0]]
    metadata = outline.metadata
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer,
        "WEBP",
        lossless=outline.quality is None,
        quality=80 if outline.quality is None else outline.quality,
        exact=True,  # colours stay under transparent pixels too
        **({"icc_profile": outline.profile} if outline.profile else {}),
        **({"exif": exif_argument(metadata.exif)} if metadata.exif else {}),
        **({"xmp": metadata.xmp} if metadata.xmp else {}),
    )
    encoded = buffer.getvalue()
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
