"""GIF, by Pillow: read only, as its 256 colours would lose most of a photograph's."""

from __future__ import annotations

from typing import BinaryIO

from PIL.GifImagePlugin import GifImageFile

from deploy.images.formats.by_pillow import opened_by_pillow
from deploy.images.formats.contract import Format, Opened


def open_gif(file: BinaryIO, frame: int) -> Opened:
    """The header of a GIF file. Later frames are what a viewer shows: laid over those before."""
    file.seek(0)
    return opened_by_pillow(GifImageFile(file), frame, is_lossless=False)


GIF = Format(
    name="gif",
    title="GIF",
    suffixes=(".gif",),
    begins=lambda start: start.startswith((b"GIF87a", b"GIF89a")),
    open=open_gif,
)
