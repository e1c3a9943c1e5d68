"""PNG: read with all its depths and kinds, written row by row.

Up to 8 bits per channel Pillow unfolds the pixels. Of 16 bits Pillow keeps eight, so those are read here, as PNG (third
edition) defines them: chunks of length, type, data and CRC-32, all rows one zlib stream. The writer holds a few dozen
rows; the same picture has the same bytes however its rows are divided.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from deploy.images.boxes import colours_taken_as_srgb
from deploy.images.exif import exif_of
from deploy.images.formats.by_pillow import decoding_bytes, refuse_long_way, samples_of
from deploy.images.formats.contract import DamageError, Format, Opened, Outline, Writer
from deploy.images.formats.filters import Bytes, filtered, unfiltered
from deploy.images.iptc import iptc_from_resources, resources_from_iptc
from deploy.images.notes import PNG_END, png_chunk_from_note
from deploy.images.picture import Metadata, Samples
from deploy.images.sizes import Size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_SIDE = 2**31 - 1
_ROWS_AT_A_TIME = 64
_STRIP_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_BLOCK_BYTES = 4 << 20
"""Of filtered rows that are undone at once."""
_LEVEL = 6  # zlib's own default
_MOST_TEXT = 16 << 20
"""Bytes that a profile or text may unfold to."""
_MOST_CHUNK = 64 << 20
"""Bytes of a chunk that is kept; pixels are not."""
_METRE = 0.0254  # inches
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass the first column and row, and how far apart they are (section 8)."""
_USUAL_GAMMA, _GAMMA_SLACK = 1 / 2.2, 0.01
_LEFT_TO_US = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks that Pillow is not shown: it refuses pictures whose texts or profile are long, which are read here."""
_NOT_MISSED = (b"software", b"creation time", b"date:create", b"date:modify", b"date:timestamp")
"""Texts that say nothing of the picture."""
_XMP = b"XML:com.adobe.xmp"
_IPTC = b"Raw profile type iptc"
"""What ImageMagick calls it, and exiftool reads."""


@dataclass(kw_only=True)
class _Header:
    """What stands in the file besides pixels."""

    size: Size
    bits: int
    colour: int
    is_interlaced: bool
    profile: bytes | None = None
    transparent: bytes | None = None
    frames: int = 1
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    has_comment: bool = False
    gamma: float | None = None
    is_srgb: bool = False
    cicp: tuple[int, int] | None = None  # numbers of primaries and transfer, as ITU-T H.273 has them
    data_starts: list[tuple[int, int]] = field(default_factory=list)  # of each IDAT: where it lies, how long it is
    shown: list[tuple[int, int]] = field(default_factory=list)  # begin and end of what Pillow is shown


def open_png(file: BinaryIO, frame: int) -> Opened:
    """The header of a PNG file, its chunks walked through once."""
    header = _header(file)
    colours = "P" if header.colour == 3 else ("L" if header.colour in (0, 4) else "RGB")
    has_alpha = header.colour in (4, 6) or header.transparent is not None
    exif = exif_of(header.exif)
    refuse_long_way(header.size, frame)

    def decode() -> Samples:
        if header.bits == 16:
            return _deep_samples(file, header)
        image = PngImageFile(io.BufferedReader(_Parts(file, header.shown)))
        if frame:
            image.seek(frame)
        image.load()
        return samples_of(image)

    return Opened(
        size=header.size,
        mode=colours if colours == "P" else colours + ("A" if has_alpha else ""),
        bits=header.bits,
        decode=decode,
        decoding_bytes=None if header.bits == 16 else decoding_bytes(colours + ("A" if has_alpha else "")),
        frames=1 if header.bits == 16 else header.frames,
        orientation=exif.orientation if exif else 1,
        is_lossless=True,
        profile=header.profile,
        changes=_colour_changes(header),
        metadata=Metadata(
            exif=header.exif, xmp=header.xmp, iptc=header.iptc, dpi=header.dpi, comment=header.has_comment
        ),
    )


def _header(file: BinaryIO) -> _Header:
    """All chunks but the pixels; ValueError where the file is damaged before them."""
    file.seek(len(SIGNATURE))
    header: _Header | None = None
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        place = file.tell()
        if header is None:
            if kind != b"IHDR" or length != 13:
                raise DamageError("it does not begin with a header")
            header = _header_from_data(file.read(13))
            header.shown.append((0, place + length + 4))
        elif kind == b"IDAT":
            header.data_starts.append((place, length))
        elif kind == b"IEND":
            _extend(header.shown, place - 8, place + length + 4)
            break
        elif length <= _MOST_CHUNK and kind in _READERS:
            data = file.read(length)
            if len(data) == length and file.read(4) == struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))):
                _READERS[kind](header, data)
        if kind not in _LEFT_TO_US:
            _extend(header.shown, place - 8, place + length + 4)
        file.seek(place + length + 4)
    if header is None or not header.data_starts:
        raise DamageError("it has no pixels")
    return header


def _extend(parts: list[tuple[int, int]], start: int, end: int) -> None:
    """Another part of the file, joined to the one before where it follows it."""
    if parts[-1][1] >= start:
        parts[-1] = parts[-1][0], max(end, parts[-1][1])
    else:
        parts.append((start, end))


class _Parts(io.RawIOBase):
    """Parts of a file that is open, one after another, as if there were nothing between them."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        self._file = file
        self._parts = parts
        self._place = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Bytes before the next one."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The next byte to read is that one."""
        whole = sum(end - start for start, end in self._parts)
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: whole}[whence])
        return self._place

    def readinto(self, buffer: Any) -> int:
        """As many bytes as fit into the buffer and lie in one part."""
        before = 0
        for start, end in self._parts:
            inside = self._place - before
            if inside < end - start:
                self._file.seek(start + inside)
                data = self._file.read(min(len(buffer), end - start - inside))
                buffer[: len(data)] = data
                self._place += len(data)
                return len(data)
            before += end - start
        return 0


def _header_from_data(data: bytes) -> _Header:
    if len(data) < 13:
        raise DamageError("its header is cut short")
    width, height, bits, colour, compression, filters, interlaced = struct.unpack(">IIBBBBB", data)
    if bits not in _DEPTHS.get(colour, ()) or compression or filters or interlaced > 1:
        raise DamageError(f"its header says {bits} bits of the colour type {colour}, which PNG does not have")
    if not (0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE):
        raise DamageError(f"its header says {width}x{height} pixels")
    return _Header(size=Size(height, width), bits=bits, colour=colour, is_interlaced=bool(interlaced))


def _read_profile(header: _Header, data: bytes) -> None:
    header.profile = _inflated(data.partition(b"\0")[2][1:])


def _read_transparent(header: _Header, data: bytes) -> None:
    header.transparent = data


def _read_exif(header: _Header, data: bytes) -> None:
    header.exif = data.removeprefix(b"Exif\0\0") or None


def _read_resolution(header: _Header, data: bytes) -> None:
    if len(data) == 9 and data[8] == 1:
        across, down = struct.unpack(">II", data[:8])
        header.dpi = (across * _METRE, down * _METRE) if across and down else None


def _read_frames(header: _Header, data: bytes) -> None:
    header.frames = max(1, int.from_bytes(data[:4], "big"))


def _read_text(header: _Header, data: bytes) -> None:
    """iTXt, zTXt and tEXt: XMP, IPTC as ImageMagick writes it, or a comment."""
    name, _, rest = data.partition(b"\0")
    if name == _XMP:
        compressed, rest = rest[:1] == b"\1", rest[2:]
        text = rest.partition(b"\0")[2].partition(b"\0")[2]  # after the language and the translated keyword
        header.xmp = (_inflated(text) if compressed else text) or None
    elif name in (_IPTC, b"Raw profile type iptc", b"Raw profile type APP13"):
        header.iptc = _iptc_from_hexadecimal(_inflated(rest[1:]) or rest) or header.iptc
    elif name.lower() not in _NOT_MISSED:
        header.has_comment = True


def _read_gamma(header: _Header, data: bytes) -> None:
    header.gamma = int.from_bytes(data[:4], "big") / 100_000


def _read_srgb(header: _Header, data: bytes) -> None:
    del data
    header.is_srgb = True


def _read_cicp(header: _Header, data: bytes) -> None:
    header.cicp = (data[0], data[1]) if len(data) == 4 else None


def _colour_changes(header: _Header) -> tuple[str, ...]:
    """What the file says of its colours without a profile, which is not applied, in words."""
    if header.cicp is not None and (told := colours_taken_as_srgb(*header.cicp)):
        return (told,)
    unusual = header.gamma is not None and abs(header.gamma - _USUAL_GAMMA) > _GAMMA_SLACK
    if unusual and header.profile is None and not header.is_srgb:
        return (f"its gamma of {header.gamma:g} is not applied, and its colours are taken as sRGB",)
    return ()


_READERS = {
    b"iCCP": _read_profile,
    b"tRNS": _read_transparent,
    b"eXIf": _read_exif,
    b"pHYs": _read_resolution,
    b"acTL": _read_frames,
    b"iTXt": _read_text,
    b"zTXt": _read_text,
    b"tEXt": _read_text,
    b"gAMA": _read_gamma,
    b"sRGB": _read_srgb,
    b"cICP": _read_cicp,
}


def _inflated(data: bytes) -> bytes | None:
    """What a chunk's compressed data hold; None where they are damaged or more than a profile can be."""
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(data, _MOST_TEXT)
    except zlib.error:
        return None
    return whole if stream.eof else None


def _iptc_from_hexadecimal(text: bytes) -> bytes | None:
    """A line with a name, one with a length, then hexadecimal digits in lines."""
    lines = text.split(b"\n")
    try:
        data = bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    return iptc_from_resources(data) if data.startswith(b"8BIM") else data or None


def _deep_samples(file: BinaryIO, header: _Header) -> Samples:
    """uint16 (H, W, C) of a file of 16 bits per channel, with alpha where a colour is marked as transparent."""
    height, width = header.size
    channels = _CHANNELS[header.colour]
    whole = np.empty((height, width, channels), np.uint16)
    stream = _Inflating(file, header.data_starts)
    passes = _ADAM7 if header.is_interlaced else ((0, 0, 1, 1),)
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns <= 0 or rows <= 0:
            continue
        target = whole[top::down, left::across]
        done = 0
        for block in _blocks(stream, columns * channels * 2, rows, channels * 2):
            values = block.view(">u2").reshape(len(block), columns, channels)
            target[done : done + len(block)] = values
            done += len(block)
    if header.transparent is not None and header.colour in (0, 2):
        key = np.frombuffer(header.transparent[: 2 * channels], ">u2")
        if len(key) == channels:
            alpha = np.where((whole == key).all(axis=2), 0, 65535).astype(np.uint16)
            return np.dstack([whole, alpha])
        return np.dstack([whole, np.full((height, width), 65535, np.uint16)])
    return whole


def _blocks(stream: _Inflating, row_bytes: int, rows: int, unit: int) -> Iterator[Bytes]:
    """The rows of a picture or a pass, some at a time, without their filters."""
    previous = np.zeros(row_bytes, np.uint8)
    at_once = max(1, min(1024, _BLOCK_BYTES // (row_bytes + 1)))
    for top in range(0, rows, at_once):
        count = min(at_once, rows - top)
        stored = np.frombuffer(stream.read(count * (row_bytes + 1)), np.uint8).reshape(count, row_bytes + 1)
        made = unfiltered(stored, previous, unit)
        previous = made[-1].copy()
        yield np.ascontiguousarray(made)


class _Inflating:
    """The zlib stream that all IDAT chunks make together; never more is unfolded than is asked for."""

    def __init__(self, file: BinaryIO, places: list[tuple[int, int]]) -> None:
        self._pieces = self._compressed(file, places)
        self._stream = zlib.decompressobj()
        self._left = b""

    @staticmethod
    def _compressed(file: BinaryIO, places: list[tuple[int, int]]) -> Iterator[bytes]:
        for place, length in places:
            file.seek(place - 4)
            crc = zlib.crc32(file.read(4))
            left = length
            while left:
                piece = file.read(min(left, 1 << 20))
                if not piece:
                    raise DamageError("the file ends among its pixels")
                crc = zlib.crc32(piece, crc)
                left -= len(piece)
                if not left and file.read(4) != struct.pack(">I", crc):
                    raise DamageError("its pixels do not match their checksum")
                yield piece

    def read(self, size: int) -> bytes:
        """So many bytes; ValueError where there are fewer."""
        parts = []
        while size:
            if not self._left:
                if self._stream.eof:
                    raise DamageError("it holds fewer rows than its header says")
                self._left = next(self._pieces, b"")
                if not self._left:
                    raise DamageError("the file ends among its pixels")
            try:
                part = self._stream.decompress(self._left, size)
            except zlib.error as error:
                raise DamageError("its pixels cannot be unfolded") from error
            self._left = self._stream.unconsumed_tail
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def write_png(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """The whole file, from its first row to its last."""
    digest = hashlib.sha256()

    def write(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    height, width = outline.size
    colour = (0 if outline.grey else 2) + (4 if outline.alpha else 0)
    write(SIGNATURE)
    write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, outline.bits, colour, 0, 0, 0)))
    for kind, data in _chunks_before_pixels(outline):
        write(_chunk(kind, data))
    stream = zlib.compressobj(_LEVEL)
    waiting = bytearray()
    at_once = max(1, min(_ROWS_AT_A_TIME, _STRIP_BYTES // outline.row_bytes))
    previous = np.zeros(outline.row_bytes, np.uint8)
    unit = outline.channels * outline.bits // 8
    for block in rows:
        for top in range(0, len(block), at_once):
            strip = block[top : top + at_once]
            stored = strip.astype(">u2") if outline.bits == 16 else np.ascontiguousarray(strip)
            as_bytes = stored.view(np.uint8).reshape(len(strip), outline.row_bytes)
            waiting += stream.compress(filtered(as_bytes, previous, unit))
            while len(waiting) > _CHUNK_BYTES:  # always as long, so that the file does not tell of the blocks
                write(_chunk(b"IDAT", bytes(waiting[:_CHUNK_BYTES])))
                del waiting[:_CHUNK_BYTES]
            previous = as_bytes[-1].copy()
    waiting += stream.flush()
    for place in range(0, len(waiting), _CHUNK_BYTES):
        write(_chunk(b"IDAT", bytes(waiting[place : place + _CHUNK_BYTES])))
    if outline.note is not None:
        file.write(png_chunk_from_note(digest, outline.note))
    file.write(PNG_END)


def _chunks_before_pixels(outline: Outline) -> Iterator[tuple[bytes, bytes]]:
    metadata = outline.metadata
    if outline.profile:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(outline.profile)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(min(round(value / _METRE), 2**31 - 1) for value in metadata.dpi), 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP + b"\0\0\0\0\0" + metadata.xmp
    if metadata.iptc:
        blocks = resources_from_iptc(metadata.iptc)
        lines = "\n".join(blocks[place : place + 36].hex() for place in range(0, len(blocks), 36))
        text = f"\niptc\n{len(blocks):8d}\n{lines}\n"
        yield b"zTXt", _IPTC + b"\0\0" + zlib.compress(text.encode("ascii"))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


PNG = Format(
    name="png",
    title="PNG",
    suffixes=(".png",),
    begins=lambda start: start.startswith(SIGNATURE),
    open=open_png,
    writer=Writer(
        write=write_png,
        bits=(8, 16),
        keeps=frozenset({"grey", "alpha", "grey with alpha", "profile", "exif", "xmp", "iptc", "dpi"}),
        longest_side=_LONGEST_SIDE,
        is_streamed=True,
    ),
)
