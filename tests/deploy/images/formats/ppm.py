"""NetPBM's P5 and P6: one line each for the kind, the size and the highest value, then the samples."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from deploy.images.formats.contract import Format, Opened, Outline, Writer
from deploy.images.notes import trailer_from_note
from deploy.images.picture import Samples
from deploy.images.sizes import Size

_CHANNELS = {b"P5": 1, b"P6": 3}


def open_ppm(file: BinaryIO, frame: int) -> Opened:
    """The header of a P5 or P6 file without comments."""
    del frame  # there is one picture
    kind = file.readline().strip()
    width, height = map(int, file.readline().split())
    bits = 16 if int(file.readline()) > 255 else 8
    size, channels, begin = Size(height, width), _CHANNELS[kind], file.tell()

    def decode() -> Samples:
        file.seek(begin)
        samples = np.frombuffer(file.read(height * width * channels * bits // 8), ">u2" if bits == 16 else "u1")
        return samples.reshape(*size, channels).astype(f"u{bits // 8}")

    return Opened(size=size, mode="L" if channels == 1 else "RGB", bits=bits, decode=decode, is_lossless=True)


def write_ppm(file: BinaryIO, outline: Outline, rows: Iterator[Samples]) -> None:
    """Row by row, and what is known of its making after the last one."""
    digest = hashlib.sha256()

    def write(part: bytes) -> None:
        digest.update(part)
        file.write(part)

    kind = "P5" if outline.grey else "P6"
    write(f"{kind}\n{outline.size.width} {outline.size.height}\n{(1 << outline.bits) - 1}\n".encode())
    for block in rows:
        write(block.astype(outline.dtype.newbyteorder(">")).tobytes())
    if outline.note is not None:
        file.write(trailer_from_note(digest.digest(), outline.note))


PPM = Format(
    name="ppm",
    title="NetPBM",
    suffixes=(".ppm", ".pgm"),
    begins=lambda start: start.startswith((b"P5\n", b"P6\n")),
    open=open_ppm,
    writer=Writer(write=write_ppm, bits=(8, 16), keeps=frozenset({"grey"}), longest_side=1 << 20, is_streamed=True),
)
