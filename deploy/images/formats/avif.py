"""AVIF, by Pillow, 8 bits per channel. Pillow would read 10 and 12 bits as 8 without a word: those are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from PIL import features
from PIL.AvifImagePlugin import AvifImageFile

from deploy.errors import ImageError, MissingPackage
from deploy.images.boxes import bits_of_av1, brands_of, colours_of_box, colours_taken_as_srgb
from deploy.images.formats.by_pillow import encoded_without_grey, opened_by_pillow
from deploy.images.formats.contract import Format, Opened, Outline, Writer
from deploy.images.notes import with_box
from deploy.images.picture import Samples

QUALITY = 90
_LONGEST_SIDE = 65_535
_DECODER_BYTES = 13
"""Of each pixel: the library's planes, its picture, and that as bytes."""
_START = 64 << 10
"""Bytes in which the description of the picture stands, before its data."""


def open_avif(file: BinaryIO, frame: int) -> Opened:
    """The header of an AVIF file."""
    _check()
    file.seek(0)
    start = file.read(_START)
    bits = bits_of_av1(start)
    if bits > 8:
        raise ImageError(
            f"AVIF of {bits} bits per channel cannot be read without loss. Convert it to PNG of 16 bits, for instance "
            "with avifdec -d 16."
        )
    file.seek(0)
    opened = opened_by_pillow(AvifImageFile(file), frame, is_lossless=False, decoder_bytes=_DECODER_BYTES)
    colours = colours_of_box(start) if opened.profile is None else None
    told = colours_taken_as_srgb(*colours) if colours else None
    return replace(opened, changes=(told,)) if told else opened


def write_avif(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """Without chroma subsampling; a grey picture as three equal channels."""
    encoded = encoded_without_grey(
        outline,
        rows,
        "AVIF",
        quality=QUALITY if outline.quality is None else outline.quality,
        subsampling="4:4:4",
        max_threads=1,  # the same bytes on every machine
    )
    file.write(encoded if outline.note is None else with_box(encoded, outline.note))


def _check() -> None:
    if not features.check("avif"):
        raise MissingPackage("AVIF needs a Pillow that was built with it, 11.3 or newer: pip install -U pillow.")


AVIF = Format(
    name="avif",
    title="AVIF",
    suffixes=(".avif",),
    begins=lambda start: bool({b"avif", b"avis"} & brands_of(start)),
    open=open_avif,
    writer=Writer(
        write=write_avif,
        bits=(8,),
        keeps=frozenset({"alpha", "profile", "exif", "xmp", "quality"}),
        longest_side=_LONGEST_SIDE,
        is_lossless=False,
        check=_check,
    ),
)
