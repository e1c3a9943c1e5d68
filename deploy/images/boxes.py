"""The boxes that AVIF, HEIC and JPEG XL files consist of (ISO/IEC 14496-12): a length, a kind, data."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

_MOST_BOXES = 10_000
_PRIMARIES_OF_SRGB = (1, 2)
_TRANSFERS_OF_SRGB = (1, 2, 6, 13)
"""2 says nothing; 1 and 6 are the curve of television, which viewers show as sRGB's."""


def brands_of(start: bytes) -> set[bytes]:
    """What a file's first box says that it is; none of other files."""
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[8:12], *(start[place : place + 4] for place in range(16, end - 3, 4))}


def bits_of_av1(start: bytes) -> int:
    """Bits per channel by the configuration of the AV1 pictures in an AVIF file: the highest that is named.

    Of the record, the third byte holds the flags high_bitdepth (0x40) and twelve_bit (0x20).
    """
    highest, place = 8, start.find(b"av1C")
    while place >= 0 and place + 6 < len(start):
        flags = start[place + 6]
        if flags & 0x40:
            highest = max(highest, 12 if flags & 0x20 else 10)
        place = start.find(b"av1C", place + 4)
    return highest


def colours_of_box(start: bytes) -> tuple[int, int] | None:
    """Numbers of primaries and transfer, as ITU-T H.273 has them, by the box `colr` of kind `nclx`, if any."""
    place = start.find(b"colrnclx")
    if place < 0 or place + 12 > len(start):
        return None
    primaries, transfer = struct.unpack_from(">HH", start, place + 8)
    return primaries, transfer


def colours_taken_as_srgb(primaries: int, transfer: int) -> str | None:
    """What to say of a picture without a profile whose colours these numbers describe; None where they are sRGB's."""
    if primaries in _PRIMARIES_OF_SRGB and transfer in _TRANSFERS_OF_SRGB:
        return None
    named = [*(["Display P3"] if primaries in (11, 12) else []), *(["BT.2020"] if primaries == 9 else [])]
    named += ["HDR"] if transfer in (16, 18) else []
    return f"its colours ({' '.join(named) or f'{primaries}/{transfer}'} without a profile) are taken as sRGB"


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int, int]]:
    """Kind, start of the box, start of its data and its end, of all boxes on the outermost level."""
    length = file.seek(0, 2)
    place = 0
    for _ in range(_MOST_BOXES):
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:
            return
        size, data = int.from_bytes(head[:4], "big"), place + 8
        if size == 1 and len(head) == 16:
            size, data = int.from_bytes(head[8:], "big"), place + 16
        end = length if size == 0 else place + size
        if end < data or end > length:
            return
        yield head[4:8], place, data, end
        place = end


def box(kind: bytes, data: bytes) -> bytes:
    """One box; with the long form of its length where it needs that."""
    if len(data) + 8 < 1 << 32:
        return struct.pack(">I", len(data) + 8) + kind + data
    return struct.pack(">I", 1) + kind + struct.pack(">Q", len(data) + 16) + data
