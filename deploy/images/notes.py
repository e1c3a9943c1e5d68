"""A note of our own inside a picture file, which counts only while nothing else in the file was changed.

With the note stands the SHA-256 of all other bytes of the file: a picture that was retouched, resaved or cut short has
no note any more, even where the program that did it carried the note along. Where it lies:

    PNG   a chunk idMK before IEND: ancillary, private, not to be copied by programs that change the picture
    JPEG  a segment APP9 after the first segment
    WebP  a chunk IDMK at the end, which the extended layout (VP8X) allows
    AVIF, JPEG XL  a box `uuid` at the end
    others (TIFF, BMP)  after the end: label, SHA-256, note, `idMKnote` and how many bytes these are, as 32 bits

Programs that show pictures pass over all of them.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deploy.images.boxes import box, boxes

_LABEL = b"idm-deploy\0"
_DIGEST_BYTES = 32
_LARGEST = 60_000
"""Bytes of a note: a JPEG segment holds 65533."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_KIND = b"idMK"
_JPEG_KIND = b"\xff\xe9"
_WEBP_KIND = b"IDMK"
_BOX_KIND = b"uuid"
_BOX_NAME = bytes.fromhex("6f1d5c3b8e4a4e0fa2b79b0c6d3e11d4")
"""Drawn at random: what the box is, for who meets it."""
_TRAILER_KIND = b"idMKnote"
_TRAILER_END = len(_TRAILER_KIND) + 4
_BOXED = (b"ftyp", b"JXL ")


@dataclass(frozen=True)
class _Part:
    """A chunk or segment: its kind, where it begins and ends in the file, and where its data does."""

    kind: bytes
    start: int
    end: int
    data_start: int
    data_end: int


def with_note(encoded: bytes, note: bytes) -> bytes:
    """The PNG, JPEG or WebP file with a note in it; `encoded` has none yet."""
    if encoded.startswith(_PNG_START):
        before, after = encoded[: -len(PNG_END)], PNG_END
        return before + png_chunk_from_note(hashlib.sha256(before), note) + after
    if encoded.startswith(b"\xff\xd8"):
        first = 4 + int.from_bytes(encoded[4:6], "big")
        before, after = encoded[:first], encoded[first:]
        data = _labelled(hashlib.sha256(before + after).digest(), note)
        return before + _JPEG_KIND + struct.pack(">H", len(data) + 2) + data + after
    body = _extended_webp(encoded)
    data = _labelled(bytes(_DIGEST_BYTES), note)
    chunk_bytes = 8 + len(data) + len(data) % 2
    before = b"RIFF" + struct.pack("<I", len(body) + chunk_bytes) + body
    data = _labelled(hashlib.sha256(before).digest(), note)
    return before + _WEBP_KIND + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def png_chunk_from_note(before: "hashlib._Hash", note: bytes) -> bytes:
    """The chunk that holds the note, for a PNG written piece by piece: to stand between `before` and PNG_END.

    before: the SHA-256 of everything up to the chunk.
    """
    whole = before.copy()
    whole.update(PNG_END)
    data = _PNG_KIND + _labelled(whole.digest(), note)
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def with_box(encoded: bytes, note: bytes) -> bytes:
    """The file of boxes (AVIF, JPEG XL) with a note in one more, at its end."""
    data = _labelled(hashlib.sha256(encoded).digest(), note)
    return encoded + box(_BOX_KIND, _BOX_NAME + data)


def with_trailer(encoded: bytes, note: bytes) -> bytes:
    """The TIFF or BMP file with a note after its end."""
    return encoded + trailer_from_note(hashlib.sha256(encoded).digest(), note)


def trailer_from_note(digest: bytes, note: bytes) -> bytes:
    """What is to follow a file whose SHA-256 is `digest`."""
    data = _labelled(digest, note)
    return data + _TRAILER_KIND + struct.pack(">I", len(data))


def note_of(path: Path) -> bytes | None:
    """The note in a file; None if there is none, the file was changed since, or it cannot be read."""
    try:
        with path.open("rb") as file:
            for part in _parts(file):
                if _is_labelled(file, part):  # the first alone counts: each costs a look at the whole file
                    return _note_in(file, part)
    except OSError:
        return None
    return None


def _is_labelled(file: BinaryIO, part: _Part) -> bool:
    """Whether this part of the file says that it is a note."""
    if part.kind not in (_PNG_KIND, _JPEG_KIND, _WEBP_KIND, _BOX_KIND, _TRAILER_KIND):
        return False
    file.seek(part.data_start)
    return part.data_end - part.data_start >= len(_LABEL) and file.read(len(_LABEL)) == _LABEL


def _note_in(file: BinaryIO, part: _Part) -> bytes | None:
    """The note in a labelled part; None if it is damaged, or the rest of the file is not as it was."""
    size = part.data_end - part.data_start
    if size > _LARGEST:
        return None
    file.seek(part.data_start)
    data = file.read(size)
    head = len(_LABEL) + _DIGEST_BYTES
    if len(data) < size or size < head:
        return None
    if _digest_without(file, part) != data[len(_LABEL) : head]:
        return None
    return data[head:]


def _digest_without(file: BinaryIO, part: _Part) -> bytes:
    """The SHA-256 of the file without one part."""
    digest = hashlib.sha256()
    file.seek(0)
    left = part.start
    while left and (piece := file.read(min(left, 1 << 20))):
        digest.update(piece)
        left -= len(piece)
    file.seek(part.end)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.digest()


def _labelled(digest: bytes, note: bytes) -> bytes:
    if len(note) > _LARGEST - len(_LABEL) - _DIGEST_BYTES:
        raise ValueError(f"a note of {len(note)} bytes is too long for a picture file")
    return _LABEL + digest + note


def _parts(file: BinaryIO) -> Iterator[_Part]:
    """The chunks or leading segments of a picture file, as far as they can be followed; none of other files."""
    start = file.read(12)
    if start.startswith(_PNG_START):
        yield from _png_chunks(file)
    elif start.startswith(b"\xff\xd8"):
        yield from _segments(file)
    elif start.startswith(b"RIFF") and start[8:] == b"WEBP":
        yield from _riff_chunks(file)
    elif start[4:8] in _BOXED:
        yield from _boxes(file)
    else:
        yield from _trailers(file)


def _png_chunks(file: BinaryIO) -> Iterator[_Part]:
    """Each is size, kind, data, CRC."""
    position = len(_PNG_START)
    while head := _read(file, position, 8):
        data_start = position + 8
        data_end = data_start + int.from_bytes(head[:4], "big")
        yield _Part(head[4:], position, data_end + 4, data_start, data_end)
        position = data_end + 4


def _riff_chunks(file: BinaryIO) -> Iterator[_Part]:
    """Each is kind, size, data, and a byte more after an odd number of them."""
    position = 12
    while head := _read(file, position, 8):
        size = int.from_bytes(head[4:], "little")
        data_start = position + 8
        end = data_start + size + size % 2
        yield _Part(head[:4], position, end, data_start, data_start + size)
        position = end


def _boxes(file: BinaryIO) -> Iterator[_Part]:
    """Those named by a number that is ours."""
    for kind, start, data, end in boxes(file):
        if kind == _BOX_KIND and _read(file, data, len(_BOX_NAME)) == _BOX_NAME:
            yield _Part(kind, start, end, data + len(_BOX_NAME), end)


def _trailers(file: BinaryIO) -> Iterator[_Part]:
    """The one at the end, if there is any."""
    length = file.seek(0, 2)
    end = length - _TRAILER_END
    tail = _read(file, end, _TRAILER_END) if end > 0 else b""
    start = end - int.from_bytes(tail[len(_TRAILER_KIND) :], "big")
    if tail.startswith(_TRAILER_KIND) and start > 0:
        yield _Part(_TRAILER_KIND, start, length, start, end)


def _segments(file: BinaryIO) -> Iterator[_Part]:
    """Of JPEG, those that precede the picture: applications' (E0 to EF) and comments (FE)."""
    position = 2
    while head := _read(file, position, 4):
        size = int.from_bytes(head[2:], "big")  # its own two bytes included
        if head[0] != 0xFF or not (0xE0 <= head[1] <= 0xEF or head[1] == 0xFE) or size < 2:
            return
        end = position + 2 + size
        yield _Part(head[:2], position, end, position + 4, end)
        position = end


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    """So many bytes from there; none if the file ends before."""
    file.seek(position)
    data = file.read(size)
    return data if len(data) == size else b""


def _extended_webp(encoded: bytes) -> bytes:
    """What follows the size in a lossless WebP file, in the layout that allows further chunks."""
    body = encoded[8:]
    if body[4:8] == b"VP8X":
        return body
    # Of a VP8L picture: 14 bits of width - 1, 14 of height - 1, and whether it uses alpha.
    bits = int.from_bytes(body[13:17], "little")
    width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    canvas = bytes([alpha << 4, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    return body[:4] + b"VP8X" + struct.pack("<I", len(canvas)) + canvas + body[4:]
