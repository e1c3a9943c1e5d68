"""EXIF blocks: what they say of the picture, and what becomes of them when it is turned and enlarged.

A block is corrected where it lies: makers' notes hold places within the block, which rewriting would break.
"""

from __future__ import annotations

import io
import struct

from deploy.images.sizes import Size
from deploy.images.tags import (
    LONG,
    SHORT,
    Directory,
    Entry,
    TagError,
    TagFile,
    directory_bytes,
)

WIDTH, HEIGHT, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x100, 0x101, 0x112, 0x11A, 0x11B, 0x128
EXIF_PLACE, GPS_PLACE, INTEROP_PLACE = 0x8769, 0x8825, 0xA005
DESCRIPTION = 0x10E
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_THUMBNAIL_PLACE, _THUMBNAIL_LENGTH = 0x201, 0x202
_CENTIMETRES_PER_INCH = 2.54
DESCRIPTIVE = (
    *(0x10D, 0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x13C),  # name, description, make, model, software, .. host
    *(0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # rating, copyright, what Windows adds
)
"""Tags of a TIFF's first directory that EXIF has too and that say nothing of how its pixels lie."""


class Exif:
    """A block that is understood; TagError where it cannot be."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        self._file = TagFile(io.BytesIO(block), lenient=True)
        if self._file.is_big:
            raise TagError("an EXIF block is no BigTIFF")
        self.image, self._link = self._file.directory(self._file.first)
        self.camera = self._below(EXIF_PLACE, self.image)
        self.gps = self._below(GPS_PLACE, self.image)
        self.interop = self._below(INTEROP_PLACE, self.camera)

    @property
    def orientation(self) -> int:
        """1 to 8."""
        entry = self.image.get(ORIENTATION)
        value = entry.first() if entry else 1
        return value if 1 <= value <= 8 else 1

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch, if it says so."""
        return dpi_of(self.image)

    def corrected(self, size: Size, *, orientation: int = 1) -> bytes:
        """The block for a picture of `size`, upright by default: same bytes, but for these and thumbnails."""
        block = bytearray(self.block)
        self._set(block, self._file.first, {ORIENTATION: orientation, WIDTH: size.width, HEIGHT: size.height})
        if (place := self.image.get(EXIF_PLACE)) is not None:
            self._set(block, place.first(), {_PIXEL_WIDTH: size.width, _PIXEL_HEIGHT: size.height})
        self._drop_thumbnail(block)
        return bytes(block)

    def _below(self, tag: int, directory: Directory) -> Directory:
        """The directory that a tag points to; empty where there is none that can be read."""
        entry = directory.get(tag)
        if entry is None:
            return {}
        try:
            return self._file.directory(entry.first())[0]
        except TagError:
            return {}

    def _set(self, block: bytearray, place: int, values: dict[int, int]) -> None:
        """These tags, where the directory at `place` has them, hold these numbers."""
        order = self._file.order
        try:
            (count,) = struct.unpack_from(f"{order}H", block, place)
            for index in range(count):
                at = place + 2 + 12 * index
                tag, kind, number = struct.unpack_from(f"{order}HHI", block, at)
                if tag in values and kind in (SHORT, LONG) and number == 1:
                    if values[tag] < 1 << 16:
                        struct.pack_into(f"{order}HIHH", block, at + 2, SHORT, 1, values[tag], 0)
                    else:
                        struct.pack_into(f"{order}HII", block, at + 2, LONG, 1, values[tag])
        except struct.error as error:
            raise TagError("a directory lies beyond the end of the block") from error

    def _drop_thumbnail(self, block: bytearray) -> None:
        """The small picture of before is not there: nothing points to it, and its bytes are zero."""
        if not self._link:
            return
        try:
            thumbnail, _ = self._file.directory(self._link)
        except TagError:
            thumbnail = {}
        place, length = (thumbnail.get(tag) for tag in (_THUMBNAIL_PLACE, _THUMBNAIL_LENGTH))
        if place is not None and length is not None:
            start, stop = place.first(), place.first() + length.first()
            if 8 <= start <= stop <= len(block):
                block[start:stop] = bytes(stop - start)
        (count,) = struct.unpack_from(f"{self._file.order}H", block, self._file.first)
        struct.pack_into(f"{self._file.order}I", block, self._file.first + 2 + 12 * count, 0)


def dpi_of(directory: Directory) -> tuple[float, float] | None:
    """Pixels per inch, across and down, of a TIFF or EXIF directory."""
    across, down = (directory.get(tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if across is None or down is None or not across.ratios() or not down.ratios():
        return None
    unit = directory[RESOLUTION_UNIT].first(2) if RESOLUTION_UNIT in directory else 2
    if unit not in (2, 3):
        return None
    factor = _CENTIMETRES_PER_INCH if unit == 3 else 1.0
    found = across.ratios()[0] * factor, down.ratios()[0] * factor
    return found if min(found) > 0 else None


def resolution_entries(dpi: tuple[float, float] | None) -> dict[int, Entry]:
    """The tags that say so; of None that pixels are square and of no known size, as TIFF requires the tags."""
    across, down = dpi or (1.0, 1.0)
    return {
        X_RESOLUTION: Entry.rational(across),
        Y_RESOLUTION: Entry.rational(down),
        RESOLUTION_UNIT: Entry.integers(SHORT, [1 if dpi is None else 2]),
    }


def block_from_directories(image: Directory, camera: Directory, gps: Directory) -> bytes | None:
    """A new block of these; None where there is nothing to say."""
    own = {tag: entry for tag, entry in image.items() if tag not in (EXIF_PLACE, GPS_PLACE)}
    if not (own or camera or gps):
        return None
    places = {}
    for tag, directory in ((EXIF_PLACE, camera), (GPS_PLACE, gps)):
        if directory:
            places[tag] = Entry.integers(LONG, [0])
    first = directory_bytes(own | places, 8)
    end = 8 + len(first) + len(first) % 2
    parts = b""
    for tag, directory in ((EXIF_PLACE, camera), (GPS_PLACE, gps)):
        if directory:
            places[tag] = Entry.integers(LONG, [end + len(parts)])
            written = directory_bytes(_without_places(directory), end + len(parts))
            parts += written + b"\0" * (len(written) % 2)
    first = directory_bytes(own | places, 8)
    return b"II*\0" + struct.pack("<I", 8) + first + b"\0" * (len(first) % 2) + parts


def block_from_tiff(image: Directory, camera: Directory, gps: Directory) -> bytes | None:
    """What a TIFF file says as EXIF does, as a block; None where it says nothing."""
    return block_from_directories(descriptive(image), camera, gps)


def descriptive(image: Directory) -> dict[int, Entry]:
    """What of a first directory describes the picture rather than how its pixels lie."""
    found = {tag: image[tag] for tag in DESCRIPTIVE if tag in image}
    if layout_told_by(found.get(DESCRIPTION)):
        del found[DESCRIPTION]
    return found


def layout_told_by(description: Entry | None) -> str | None:
    """Whose description of how pixels lie stands in place of one for people: it would be wrong of another size."""
    text = b"" if description is None else description.data.strip(b"\0 ")
    if text.startswith(b'{"shape"'):
        return "tifffile"
    if text.startswith(b"ImageJ="):
        return "ImageJ"
    return "OME" if b"<OME " in text else None


def block_of_resolution(dpi: tuple[float, float]) -> bytes:
    """A block that says only this, for formats without another place for it."""
    block = block_from_directories(resolution_entries(dpi), {}, {})
    assert block is not None
    return block


def exif_of(block: bytes | None) -> Exif | None:
    """The block, understood; None where there is none or it is damaged."""
    if not block:
        return None
    try:
        return Exif(block)
    except (TagError, struct.error):
        return None


def _without_places(directory: Directory) -> dict[int, Entry]:
    """Without pointers into the block that it came from."""
    return {tag: entry for tag, entry in directory.items() if tag != INTEROP_PLACE}
