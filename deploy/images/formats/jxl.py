"""JPEG XL, by OpenImageIO: all depths, without loss unless a quality is asked for.

OpenImageIO passes over EXIF and XMP; they stand in boxes of their own (ISO/IEC 18181-2), read and written here.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deploy.errors import ImageError
from deploy.images.boxes import box, boxes
from deploy.images.formats.by_openimageio import dtype_of, image_input, openimageio, samples
from deploy.images.formats.contract import Format, Opened, Outline, Writer, whole_picture
from deploy.images.notes import with_box
from deploy.images.picture import BITS, Metadata, Samples
from deploy.images.sizes import Size

_LOG = logging.getLogger(__name__)
_WHAT = "JPEG XL"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_CODESTREAM = b"\xff\x0a"
_FILE_TYPE = b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
_LONGEST_SIDE = 1 << 18
"""Of the standard's level 5, which every decoder reads."""
_MOST_METADATA = 16 << 20
_SIZE_BYTES = 16
"""Of the coded picture, more than its size takes."""
_SIDE_BITS = (9, 13, 18, 30)
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_COPIES = 3.3
"""How often the library holds the samples at its peak: of 3 and of 6 bytes a pixel, 9.8 and 18.9 were seen."""
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_KINDS = {8: "uint8", 16: "uint16", 32: "float"}


def open_jxl(file: BinaryIO, frame: int) -> Opened:
    """The header of a JPEG XL file. Its pixels come upright: their orientation stands with them, not in EXIF."""
    del frame  # of animations the library reads the first
    with image_input(file, _WHAT) as reader:
        spec = reader.spec()
        bits = BITS[dtype_of(spec, _WHAT)]
        profile = spec.getattribute("ICCProfile")
    channels = min(spec.nchannels, 4)

    def decode() -> Samples:
        with image_input(file, _WHAT) as reader:
            return samples(reader, 0, channels, _WHAT)

    metadata, changes = _metadata(file)
    return Opened(
        size=Size(spec.height, spec.width),
        mode=_MODES[channels],
        bits=bits,
        decode=decode,
        decoding_bytes=round(_COPIES * channels * bits / 8),
        is_lossless=True,
        profile=bytes(np.asarray(profile, np.uint8)) if profile is not None else None,
        metadata=metadata,
        changes=changes,
    )


def canvas_of_jxl(file: BinaryIO) -> Size | None:
    """The size at the start of the coded picture (ISO/IEC 18181-1, annex D): OpenImageIO unfolds it to open a file."""
    file.seek(0)
    start = file.read(_SIZE_BYTES)
    if start[:2] != _CODESTREAM:
        start = b""
        for kind, _, data, _ in boxes(file):
            if kind in (b"jxlc", b"jxlp"):
                file.seek(data + (4 if kind == b"jxlp" else 0))
                start = file.read(_SIZE_BYTES)
                break
    if start[:2] != _CODESTREAM or len(start) < _SIZE_BYTES:
        return None
    bits = _Bits(int.from_bytes(start[2:], "little"))
    in_eights = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if in_eights else bits.take(_SIDE_BITS[bits.take(2)]) + 1

    height = side()
    ratio = bits.take(3)
    return Size(height, height * _RATIOS[ratio][0] // _RATIOS[ratio][1] if ratio else side())


class _Bits:
    """Numbers of some bits each, the lowest bit of the first byte first."""

    def __init__(self, whole: int) -> None:
        self._left = whole

    def take(self, count: int) -> int:
        number = self._left & ((1 << count) - 1)
        self._left >>= count
        return number


def _metadata(file: BinaryIO) -> tuple[Metadata, tuple[str, ...]]:
    """EXIF and XMP of the boxes; those that are compressed by Brotli are named as left out."""
    exif = xmp = None
    changes: list[str] = []
    file.seek(0)
    if file.read(len(_CONTAINER)) != _CONTAINER:
        return Metadata(), ()
    for kind, _, data, end in boxes(file):
        if kind not in (b"Exif", b"xml ", b"brob") or end - data > _MOST_METADATA:
            continue
        file.seek(data)
        content = file.read(end - data)
        if kind == b"Exif":
            exif = content[4 + int.from_bytes(content[:4], "big") :] or None
        elif kind == b"xml ":
            xmp = content or None
        else:
            changes.append(f"its compressed {content[:4].decode('ascii', 'replace').strip()} metadata are not kept")
    return Metadata(exif=exif, xmp=xmp), tuple(changes)


def write_jxl(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """A container of the picture, EXIF and XMP. Grey with alpha, which OpenImageIO cannot write, as three channels."""
    pixels = whole_picture(outline, rows)
    if outline.grey and outline.alpha:
        pixels = np.ascontiguousarray(pixels[:, :, [0, 0, 0, 1]])
    stream = _codestream(pixels, outline)
    parts = [_CONTAINER, _FILE_TYPE, stream]
    if outline.metadata.exif:
        parts.append(box(b"Exif", bytes(4) + outline.metadata.exif))
    if outline.metadata.xmp:
        parts.append(box(b"xml ", outline.metadata.xmp))
    encoded = b"".join(parts)
    file.write(encoded if outline.note is None else with_box(encoded, outline.note))


def _codestream(pixels: Samples, outline: Outline) -> bytes:
    """The boxes that hold the picture, from a file that OpenImageIO writes."""
    module = openimageio(_WHAT)
    spec = module.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], _KINDS[outline.bits])
    spec.attribute("oiio:UnassociatedAlpha", 1)
    spec.attribute("jpegxl:distance", _distance(outline.quality))
    if outline.profile:
        spec.attribute("ICCProfile", f"uint8[{len(outline.profile)}]", np.frombuffer(outline.profile, np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jxl"
        writer = module.ImageOutput.create(str(path))
        if writer is None or not writer.open(str(path), spec) or not writer.write_image(pixels) or not writer.close():
            _LOG.info("OpenImageIO: %s", (writer or module).geterror().strip())
            raise ImageError("JPEG XL could not be written by OpenImageIO; write another format (-v tells more).")
        with path.open("rb") as written:
            written.seek(0)
            if written.read(2) == _CODESTREAM:
                written.seek(0)
                return box(b"jxlc", written.read())
            pieces = []
            for kind, start, _, end in boxes(written):
                if kind in (b"jxlc", b"jxlp", b"jxll"):
                    written.seek(start)
                    piece = bytearray(written.read(end - start))
                    if piece[:4] == bytes(4):  # to the end of the file, which this will not be any more
                        piece[:4] = len(piece).to_bytes(4, "big")
                    pieces.append(bytes(piece))
            return b"".join(pieces)


def _distance(quality: int | None) -> float:
    """As cjxl turns a quality into a distance, from 30 upwards; None is none."""
    return 0.0 if quality is None else max(0.0, 0.1 + (100 - quality) * 0.09) if quality < 100 else 0.0


def _check() -> None:
    openimageio(_WHAT)


JXL = Format(
    name="jxl",
    title="JPEG XL",
    suffixes=(".jxl",),
    begins=lambda start: start.startswith((_CONTAINER, _CODESTREAM)),
    open=open_jxl,
    canvas=canvas_of_jxl,
    writer=Writer(
        write=write_jxl,
        bits=(8, 16, 32),
        keeps=frozenset({"grey", "alpha", "profile", "exif", "xmp", "quality"}),
        longest_side=_LONGEST_SIDE,
        check=_check,
    ),
)
