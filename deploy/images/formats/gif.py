"""GIF, by Pillow: read only, as its 256 colours would lose most of a photograph's."""

from __future__ import annotations

import os
from typing import BinaryIO

from PIL.GifImagePlugin import GifImageFile

from deploy.images.formats.by_pillow import opened_by_pillow
from deploy.images.formats.contract import MOST_FRAMES, Format, Opened


def open_gif(file: BinaryIO, frame: int) -> Opened:
    """The header of a GIF file. Later frames are what a viewer shows: laid over those before."""
    frames = frames_of_gif(file)
    file.seek(0)
    return opened_by_pillow(GifImageFile(file), frame, is_lossless=False, frames=max(1, frames))


def frames_of_gif(file: BinaryIO, most: int = MOST_FRAMES + 1) -> int:
    """How many frames a file has, counted up to so many (GIF89a, sections 17 to 27)."""
    file.seek(10)
    _pass_table(file, file.read(3)[:1])
    frames = 0
    while frames < most and (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            frames += 1
            _pass_table(file, file.read(9)[8:])
            file.seek(1, os.SEEK_CUR)
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return frames


def _pass_table(file: BinaryIO, flags: bytes) -> None:
    """The colours that follow a descriptor are passed over, if its flags say that there are any."""
    if flags and flags[0] & 0x80:
        file.seek(3 * 2 ** ((flags[0] & 7) + 1), os.SEEK_CUR)


GIF = Format(
    name="gif",
    title="GIF",
    suffixes=(".gif",),
    begins=lambda start: start.startswith((b"GIF87a", b"GIF89a")),
    open=open_gif,
)
