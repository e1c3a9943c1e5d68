"""IPTC records (IIM) and the resource blocks of Photoshop that carry them in JPEG and TIFF files."""

from __future__ import annotations

import struct

_SIGNATURE = b"8BIM"
_IPTC = 0x0404
_MOST = 1 << 20


def iptc_from_resources(blocks: bytes) -> bytes | None:
    """The IPTC records among Photoshop's resource blocks; None where there are none or the blocks are damaged."""
    place = 0
    while blocks[place : place + 4] == _SIGNATURE and place + 7 < len(blocks):
        (number,) = struct.unpack_from(">H", blocks, place + 4)
        name_bytes = blocks[place + 6] + 1
        place += 6 + name_bytes + name_bytes % 2
        if place + 4 > len(blocks):
            return None
        (size,) = struct.unpack_from(">I", blocks, place)
        data = blocks[place + 4 : place + 4 + size]
        if number == _IPTC:
            return data if len(data) == size and 0 < size <= _MOST else None
        place += 4 + size + size % 2
    return None


def resources_from_iptc(iptc: bytes) -> bytes:
    """One of Photoshop's resource blocks that holds the records."""
    return _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
