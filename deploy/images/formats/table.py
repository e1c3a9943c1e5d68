"""Every format of picture files that is read or written: adding one is a file beside this one and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from deploy.images.formats.avif import AVIF
from deploy.images.formats.bmp import BMP
from deploy.images.formats.contract import Format
from deploy.images.formats.gif import GIF
from deploy.images.formats.heic import HEIC
from deploy.images.formats.jpeg import JPEG
from deploy.images.formats.jxl import JXL
from deploy.images.formats.png import PNG
from deploy.images.formats.tiff import TIFF
from deploy.images.formats.webp import WEBP

FORMATS: dict[str, Format] = {
    record.name: record
    # AVIF before HEIC: files of both may name the brand mif1.
    for record in (PNG, JPEG, WEBP, TIFF, BMP, GIF, AVIF, JXL, HEIC)
}
"""By the name that `--format` takes."""

WRITTEN = tuple(name for name, record in FORMATS.items() if record.writer is not None)
SUFFIXES = {suffix: record for record in FORMATS.values() for suffix in record.suffixes}
"""Of files that are read."""
WRITTEN_SUFFIXES = {suffix: record for suffix, record in SUFFIXES.items() if record.writer is not None}

_START_BYTES = 64


def format_of_content(file: BinaryIO) -> Format | None:
    """The format of a file by how it begins, whatever its name; None where it is none of these."""
    file.seek(0)
    start = file.read(_START_BYTES)
    file.seek(0)
    return next((record for record in FORMATS.values() if record.begins(start)), None)


def format_of_suffix(path: Path) -> Format | None:
    """The format that the name of a file to be written asks for; None where it names none that can be written."""
    return WRITTEN_SUFFIXES.get(path.suffix.lower())
