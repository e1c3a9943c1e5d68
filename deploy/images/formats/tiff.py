"""TIFF: 8 bits per channel by Pillow, 16 bits and float by OpenImageIO; written in strips, as BigTIFF where it is long.

What the file says of itself is read from its tags here, whichever library unfolds the pixels.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from math import prod
from typing import BinaryIO

import numpy as np
from PIL.TiffImagePlugin import TiffImageFile

from deploy.errors import ImageError
from deploy.images.exif import (
    DESCRIPTION,
    EXIF_PLACE,
    GPS_PLACE,
    ORIENTATION,
    block_from_tiff,
    descriptive,
    dpi_of,
    exif_of,
    layout_told_by,
    resolution_entries,
)
from deploy.images.formats.by_openimageio import image_input, openimageio, samples
from deploy.images.formats.by_pillow import MOST_OF_PILLOW, decoding_bytes, samples_of
from deploy.images.formats.contract import DamageError, Format, Opened, Outline, Writer
from deploy.images.iptc import iptc_from_resources
from deploy.images.notes import trailer_from_note
from deploy.images.orientation import as_stored
from deploy.images.picture import HIGHEST, Metadata, Samples
from deploy.images.sizes import Size
from deploy.images.tags import (
    BYTE,
    LONG,
    LONG8,
    SHORT,
    UNDEFINED,
    Directory,
    Entry,
    TagError,
    TagFile,
    directory_bytes,
)

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_PLACES, _CHANNELS, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
_PREDICTOR, _EXTRA, _SAMPLE_FORMAT, _XMP, _IPTC, _PHOTOSHOP, _PROFILE = 317, 338, 339, 700, 33723, 34377, 34675
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_MOST_PAGES = 10_000
_LAYERS = 37724  # of Photoshop
_DEFLATE = 8
_LEVEL = 6
_STRIP = 1 << 20
"""About so many bytes of pixels per strip, so that readers need not take more."""
_LARGEST_TILE = 1 << 22
"""Pixels of a tile, where the picture is smaller than that."""
_SMALLEST_BIG = (1 << 32) - (1 << 26)
"""Bytes of pixels from which the file is a BigTIFF: places in a TIFF have 32 bits."""
_MODES = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "RGB"}
_PHOTOMETRICS = {3: "a palette", 4: "a mask", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "a camera's raw data"}


def open_tiff(file: BinaryIO, frame: int) -> Opened:
    """The tags of one page of a TIFF file: pages may differ in everything."""
    tags = TagFile(file)
    all_pages = tags.directories(_MOST_PAGES)
    # Reduced copies of other pages are no pictures of their own.
    pages = [index for index, page in enumerate(all_pages) if not _first(page, _SUBFILE, 0) & 1] or [0]
    if not all_pages:
        raise TagError("it has no page")
    number = pages[min(frame, len(pages) - 1)]
    page = all_pages[number]
    photometric, channels = _first(page, _PHOTOMETRIC, 1), _first(page, _CHANNELS, 1)
    bits = max(page[_BITS].numbers(), default=1) if _BITS in page else 1
    is_float = _first(page, _SAMPLE_FORMAT, 1) == 3
    if bits > 16 and not is_float:
        raise ImageError(f"TIFF of integers of {bits} bits cannot be read. Convert it to 16 bits or to float.")
    mode = _mode(photometric, channels, bits)
    extra = page[_EXTRA].first() if _EXTRA in page else 0
    is_alpha = extra in (1, 2) and mode in ("L", "RGB") and channels > len(mode)

    size = Size(_first(page, _HEIGHT, 0), _first(page, _WIDTH, 0))
    is_beyond_pillow = mode in ("L", "RGB") and prod(size) > MOST_OF_PILLOW
    others = channels - len(mode) - is_alpha if mode != "P" else 0
    needs_more = bits > 8 or is_float or is_beyond_pillow or (others > 1 and mode in ("L", "RGB"))

    def decode() -> Samples:
        if not needs_more:
            file.seek(0)
            image = TiffImageFile(file)
            image.seek(number)
            image.load()
            return as_stored(samples_of(image), _orientation(page))  # Pillow turns pages upright by itself
        with image_input(file, _what(bits, is_float)) as reader:
            count = len(mode) + is_alpha
            if reader.spec(number).nchannels < count:
                raise DamageError(f"it has {reader.spec(number).nchannels} channels, expected {count}")
            pixels = samples(reader, number, count, "TIFF")
        if photometric == 0:  # zero is white
            pixels[:, :, 0] = HIGHEST[pixels.dtype] - pixels[:, :, 0]
        return pixels

    tile = Size(_first(page, _TILE_HEIGHT, 0), _first(page, _TILE_WIDTH, 0))
    if prod(tile) > max(_LARGEST_TILE, 4 * prod(size)):  # each is unfolded whole, however little of it is shown
        raise DamageError(f"it has {size} pixels in tiles of {tile}")
    if needs_more:
        openimageio(_what(bits, is_float))
    return Opened(
        size=size,
        mode=mode + ("A" if is_alpha else ""),
        bits=32 if is_float else bits,
        decode=decode,
        decoding_bytes=None if needs_more else decoding_bytes(mode + ("A" if is_alpha else "")),
        frames=len(pages),
        orientation=_orientation(page),
        is_lossless=_first(page, _COMPRESSION, 1) not in (6, 7),  # JPEG
        premultiplied=extra == 1 and needs_more,  # Pillow divides by itself
        profile=page[_PROFILE].data if _PROFILE in page else None,
        metadata=_metadata(tags, page),
        changes=_left_out(page, others),
    )


def _left_out(page: Directory, channels: int) -> tuple[str, ...]:
    """What of a page is passed over, in words."""
    told = [f"{channels} of its channels {'are' if channels > 1 else 'is'} not kept"] if channels > 0 else []
    layout = layout_told_by(page.get(DESCRIPTION))
    if layout not in (None, "tifffile"):  # which tells a shape, and nothing that would be missed
        told.append(f"what {layout} tells of its pixels is not kept")
    return tuple(told + (["its layers are not kept"] if _LAYERS in page else []))


def _what(bits: int, is_float: bool) -> str:
    if bits <= 8 and not is_float:
        return f"TIFF of so many channels, or of more than {MOST_OF_PILLOW} pixels,"
    return "TIFF of floating-point numbers" if is_float else f"TIFF of {bits} bits per channel"


def _mode(photometric: int, channels: int, bits: int) -> str:
    """The mode of the colours alone."""
    mode = _MODES.get(photometric)
    if mode is None or (mode == "P" and bits > 8):
        kind = _PHOTOMETRICS.get(photometric, f"colours of the unknown kind {photometric}")
        raise ImageError(f"TIFF with {kind} cannot be read. Convert it to RGB.")
    if channels < (1 if mode == "P" else len(mode)):
        raise TagError(f"it has {channels} channels, which are too few")
    return mode


def _first(page: Directory, tag: int, default: int) -> int:
    return page[tag].first(default) if tag in page else default


def _orientation(page: Directory) -> int:
    value = _first(page, ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _metadata(tags: TagFile, page: Directory) -> Metadata:
    below: dict[int, Directory] = {}
    for tag in (EXIF_PLACE, GPS_PLACE):
        below[tag] = {}
        if tag in page:
            try:
                below[tag] = tags.directory(page[tag].first())[0]
            except TagError:
                continue
    iptc = page[_IPTC].data if _IPTC in page else None
    if iptc is None and _PHOTOSHOP in page:
        iptc = iptc_from_resources(page[_PHOTOSHOP].data)
    return Metadata(
        exif=block_from_tiff(page, below[EXIF_PLACE], below[GPS_PLACE]),
        xmp=page[_XMP].data.rstrip(b"\0") or None if _XMP in page else None,
        iptc=iptc or None,
        dpi=dpi_of(page),
    )


def write_tiff(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """The strips, compressed, then the tags; the place of the tags is put into the header last."""
    height = outline.size.height
    is_big = height * outline.row_bytes > _SMALLEST_BIG
    file.write(b"II+\0\x08\0\0\0" + bytes(8) if is_big else b"II*\0" + bytes(4))
    rows_per_strip = max(1, min(height, _STRIP // outline.row_bytes))
    places, lengths = [], []
    for strip in _strips(rows, rows_per_strip):
        data = zlib.compress(_predicted(strip), _LEVEL)
        places.append(file.tell())
        lengths.append(len(data))
        file.write(data)
    file.write(b"\0" * (file.tell() % 2))
    kind = LONG8 if is_big else LONG
    page = _tags(outline, rows_per_strip) | {
        _STRIP_PLACES: Entry.integers(kind, places),
        _STRIP_BYTES: Entry.integers(kind, lengths),
    }
    exif = exif_of(outline.metadata.exif)
    for tag, directory in ((EXIF_PLACE, exif.camera if exif else {}), (GPS_PLACE, exif.gps if exif else {})):
        if directory:
            page[tag] = Entry.integers(kind, [file.tell()])
            data = directory_bytes({t: e for t, e in directory.items() if t != 0xA005}, file.tell(), big=is_big)
            file.write(data + b"\0" * (len(data) % 2))
    first = file.tell()
    file.write(directory_bytes(page, first, big=is_big))
    end = file.tell()
    file.seek(8 if is_big else 4)
    file.write(struct.pack("<Q" if is_big else "<I", first))
    file.seek(end)
    if outline.note is not None:
        file.write(trailer_from_note(_digest(file), outline.note))


def _strips(rows: Iterator[Samples], count: int) -> Iterator[Samples]:
    """The rows again, so many at a time but for the last."""
    waiting: list[Samples] = []
    held = 0
    for block in rows:
        top = 0
        while top < len(block):
            part = block[top : top + count - held]
            waiting.append(part)
            held += len(part)
            top += len(part)
            if held == count:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                waiting, held = [], 0
        waiting = [part.copy() for part in waiting]  # the block's memory is the caller's
    if held:
        yield np.concatenate(waiting)


def _predicted(strip: Samples) -> bytes:
    """Little-endian samples; integers as differences from the pixel to the left, which compress better."""
    if strip.dtype == np.float32:
        return strip.astype("<f4").tobytes()
    differences = strip.copy()
    differences[:, 1:] -= strip[:, :-1]
    return differences.astype(differences.dtype.newbyteorder("<")).tobytes()


def _tags(outline: Outline, rows_per_strip: int) -> dict[int, Entry]:
    """All but the places of what lies elsewhere in the file."""
    metadata, channels, is_float = outline.metadata, outline.channels, outline.bits == 32
    exif = exif_of(metadata.exif)
    page = descriptive(exif.image) if exif else {}
    page |= resolution_entries(metadata.dpi)
    page |= {
        _WIDTH: Entry.integers(LONG, [outline.size.width]),
        _HEIGHT: Entry.integers(LONG, [outline.size.height]),
        _BITS: Entry.integers(SHORT, [outline.bits] * channels),
        _COMPRESSION: Entry.integers(SHORT, [_DEFLATE]),
        _PHOTOMETRIC: Entry.integers(SHORT, [1 if outline.grey else 2]),
        ORIENTATION: Entry.integers(SHORT, [1]),
        _CHANNELS: Entry.integers(SHORT, [channels]),
        _ROWS_PER_STRIP: Entry.integers(LONG, [rows_per_strip]),
        _PREDICTOR: Entry.integers(SHORT, [1 if is_float else 2]),
        _SAMPLE_FORMAT: Entry.integers(SHORT, [3 if is_float else 1] * channels),
    }
    if outline.alpha:
        page[_EXTRA] = Entry.integers(SHORT, [2])  # not multiplied into the colours
    for tag, data, kind in ((_XMP, metadata.xmp, BYTE), (_IPTC, metadata.iptc, UNDEFINED)):
        if data:
            page[tag] = Entry.block(data, kind)
    if outline.profile:
        page[_PROFILE] = Entry.block(outline.profile)
    return page


def _digest(file: BinaryIO) -> bytes:
    """The SHA-256 of all that was written."""
    end = file.tell()
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(end)
    return digest.digest()


TIFF = Format(
    name="tiff",
    title="TIFF",
    suffixes=(".tif", ".tiff"),
    begins=lambda start: start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    open=open_tiff,
    writer=Writer(
        write=write_tiff,
        bits=(8, 16, 32),
        keeps=frozenset({"grey", "alpha", "grey with alpha", "profile", "exif", "xmp", "iptc", "dpi"}),
        longest_side=2**31 - 1,
        is_streamed=True,
    ),
)
