"""Every format of picture files that is read or written: adding one is a file beside this one and a name below."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from deploy.errors import ImageError
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

FORMATS: dict[str, Format] = {}
"""By the name that `--format` takes, in the order in which they are tried on a file."""
WRITTEN: list[str] = []
"""Names of those that are written."""
SUFFIXES: dict[str, Format] = {}
"""Of files that are read."""
WRITTEN_SUFFIXES: dict[str, Format] = {}


def register(record: Format) -> None:
    """A format more: it is read, and written if it has a writer, wherever the others are."""
    if record.name in FORMATS:
        raise ImageError(f"There is a format called {record.name!r} already; give the new one another name.")
    FORMATS[record.name] = record
    SUFFIXES.update(dict.fromkeys(record.suffixes, record))
    if record.writer is not None:
        WRITTEN.append(record.name)
        WRITTEN_SUFFIXES.update(dict.fromkeys(record.suffixes, record))


# AVIF before HEIC: files of both may name the brand mif1.
for _record in (PNG, JPEG, WEBP, TIFF, BMP, GIF, AVIF, JXL, HEIC):
    register(_record)

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
