"""Tags as TIFF files and EXIF blocks hold them: directories of numbered entries, read and written.

A directory is a count, entries of (tag, type, number of values, the values or where they lie) and the place of the
next directory (TIFF 6.0, section 2). BigTIFF has wider numbers in the same order. What is read may be hostile: nothing
is taken from beyond the file, no loop is followed, and no more memory than the limits below is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from deploy.images.formats.contract import DamageError

MOST_ENTRIES = 4096
MOST_BYTES = 64 << 20
"""Of one entry's values: an ICC profile or XMP, at most."""

MOST_READ = 256 << 20
"""Of all values that one file's tags may claim: several may claim the same bytes again and again."""

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD, LONG8 = 1, 2, 3, 4, 5, 7, 13, 16
_BYTES_OF_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNITS_OF_VALUE = {5: 2, 10: 2}
_INTEGERS = {1: "<u1", 3: "<u2", 4: "<u4", 6: "<i1", 8: "<i2", 9: "<i4", 13: "<u4", 16: "<u8", 17: "<i8", 18: "<u8"}


class TagError(DamageError):
    """A directory that cannot be followed."""


@dataclass(frozen=True)
class Entry:
    """The values of one tag: TIFF's number of their type, how many, and their bytes, little-endian."""

    kind: int
    count: int
    data: bytes

    @classmethod
    def integers(cls, kind: int, values: Sequence[int]) -> Entry:
        """Of BYTE, SHORT, LONG or LONG8."""
        return cls(kind, len(values), np.array(values).astype(_INTEGERS[kind]).tobytes())

    @classmethod
    def text(cls, value: str) -> Entry:
        """ASCII, with the zero at its end."""
        data = value.encode("ascii", "replace") + b"\0"
        return cls(ASCII, len(data), data)

    @classmethod
    def rational(cls, value: float) -> Entry:
        """One value, in thousandths."""
        return cls(RATIONAL, 1, struct.pack("<II", min(round(value * 1000), 0xFFFFFFFF), 1000))

    @classmethod
    def block(cls, data: bytes, kind: int = UNDEFINED) -> Entry:
        """Bytes whose meaning is elsewhere."""
        return cls(kind, len(data), data)

    def numbers(self) -> tuple[int, ...]:
        """The values as integers; none where they are no integers."""
        dtype = _INTEGERS.get(self.kind)
        return tuple(np.frombuffer(self.data, dtype).tolist()) if dtype else ()

    def first(self, default: int = 0) -> int:
        """The first of the values."""
        return next(iter(self.numbers()), default)

    def ratios(self) -> tuple[float, ...]:
        """The values as fractions; none where they are none."""
        if self.kind != RATIONAL:
            return ()
        parts = np.frombuffer(self.data, "<u4").reshape(-1, 2)
        return tuple(float(above) / float(below) if below else 0.0 for above, below in parts.tolist())


Directory = Mapping[int, Entry]


class TagFile:
    """The directories of a TIFF file or EXIF block that is open for reading.

    lenient: a tag whose value cannot be read is passed over, as viewers do with EXIF; else it is a TagError.
    """

    def __init__(self, file: BinaryIO, *, lenient: bool = False) -> None:
        self._file = file
        self._lenient = lenient
        self.length = file.seek(0, 2)
        self._left = MOST_READ
        file.seek(0)
        head = file.read(16)
        if head[:2] not in (b"II", b"MM"):
            raise TagError("it has no TIFF header")
        self.order = "<" if head[:2] == b"II" else ">"
        version = self._number(head[2:4])
        if version not in (42, 43):
            raise TagError(f"its TIFF header has the unknown version {version}")
        self.is_big = version == 43
        self.first = self._number(head[8:16]) if self.is_big else self._number(head[4:8])

    def directories(self, limit: int) -> list[Directory]:
        """The chain of directories, at most so many: one per page."""
        found: list[Directory] = []
        seen = set()
        place = self.first
        while place and place not in seen and len(found) < limit:
            seen.add(place)
            directory, place = self.directory(place)
            found.append(directory)
        return found

    def directory(self, place: int) -> tuple[dict[int, Entry], int]:
        """The entries of the directory there, and where the next one lies (0: there is none)."""
        count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if self.is_big else (2, 12, 4)
        count = self._number(self._read(place, count_bytes))
        if count > MOST_ENTRIES:
            raise TagError(f"a directory claims {count} tags")
        table = self._read(place + count_bytes, count * entry_bytes)
        entries: dict[int, Entry] = {}
        for index in range(count):
            row = table[index * entry_bytes : (index + 1) * entry_bytes]
            tag, kind = self._number(row[:2]), self._number(row[2:4])
            try:
                entry = self._entry(kind, self._number(row[4 : 4 + offset_bytes]), row[4 + offset_bytes :])
            except TagError:
                if not self._lenient:
                    raise
                continue
            if entry is not None:
                entries.setdefault(tag, entry)
        after = place + count_bytes + count * entry_bytes
        # Some writers leave out the link of the last directory.
        link = self._read(after, offset_bytes) if after + offset_bytes <= self.length else b"\0"
        return entries, self._number(link)

    def _entry(self, kind: int, count: int, value: bytes) -> Entry | None:
        """None: of a type that is not known."""
        if kind not in _BYTES_OF_UNIT:
            return None
        unit = _BYTES_OF_UNIT[kind]
        length = unit * _UNITS_OF_VALUE.get(kind, 1) * count
        if length > MOST_BYTES:
            raise TagError(f"a tag claims {length} bytes")
        data = value[:length] if length <= len(value) else self._read(self._number(value), length)
        if self.order == ">" and unit > 1:
            data = np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()
        return Entry(kind, count, data)

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big")

    def _read(self, place: int, size: int) -> bytes:
        if place < 0 or place + size > self.length:
            raise TagError("a tag lies beyond the end of the file")
        self._left -= size
        if self._left < 0:
            raise TagError(f"its tags claim more than {MOST_READ} bytes")
        self._file.seek(place)
        data = self._file.read(size)
        if len(data) < size:
            raise TagError("a tag lies beyond the end of the file")
        return data


def directory_bytes(entries: Directory, place: int, *, big: bool = False, link: int = 0) -> bytes:
    """A little-endian directory that is to lie at `place`, followed by the values that do not fit into it."""
    count_format, room = ("<Q", 8) if big else ("<H", 4)
    entry_format = "<HHQ" if big else "<HHI"
    offset_format = "<Q" if big else "<I"
    head = struct.pack(count_format, len(entries))
    table, values = b"", b""
    end = place + len(head) + len(entries) * (struct.calcsize(entry_format) + room) + room
    for tag in sorted(entries):
        entry = entries[tag]
        table += struct.pack(entry_format, tag, entry.kind, entry.count)
        if len(entry.data) <= room:
            table += entry.data.ljust(room, b"\0")
            continue
        values += b"\0" * ((end + len(values)) % 2)  # values begin at even places
        table += struct.pack(offset_format, end + len(values))
        values += entry.data
    return head + table + struct.pack(offset_format, link) + values
