"""A PNG written row by row, for pictures larger than memory.

Pillow needs the whole picture at once; this writer holds a few dozen rows. 8-bit RGB or grey, not interlaced,
as PNG (third edition) defines it: chunks of length, type, data and CRC-32; each row preceded by the number of
the filter that was applied to it; all rows one zlib stream.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError
from deploy.images.files import check_output
from deploy.images.notes import PNG_END, png_chunk_from_note
from engines.new_files import new_file

Pixels = NDArray[np.uint8]

_ROWS_AT_A_TIME = 64
_LEVEL = 6  # zlib's own default


def write_png_rows(
    path: str | Path,
    width: int,
    height: int,
    blocks: Iterable[Pixels],
    *,
    grey: bool = False,
    note: bytes | None = None,
) -> None:
    """`path` holds the picture whose rows the blocks bring from top to bottom: uint8 (rows, width, 3) each,
    or (rows, width) for a `grey` picture of one channel.

    The blocks may have any heights that add up to `height`. Memory beyond the blocks does not depend on the
    height; the file appears complete or not at all, and has the same bytes however the rows are divided. `note` is put
    into it as deploy.images.notes says.
    """
    path = Path(path)
    check_output(path, (width, height))
    if path.suffix.lower() != ".png":
        raise ImageError(f"writing {path}: only PNG can be written row by row. Name the file .png.")
    if width < 1 or height < 1:
        raise ImageError(f"writing {path}: the size is {width}x{height}, expected at least one pixel.")
    with new_file(path) as file:
        digest = hashlib.sha256()

        def write(part: bytes) -> None:
            digest.update(part)
            file.write(part)

        write(b"\x89PNG\r\n\x1a\n")
        write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0 if grey else 2, 0, 0, 0)))
        stream = zlib.compressobj(_LEVEL)
        previous = np.zeros((1, width, 1 if grey else 3), np.uint8)
        for rows in _strips(path, width, height, blocks, grey):
            # The compressor often has nothing to hand out yet.
            if compressed := stream.compress(_filtered(rows, previous)):
                write(_chunk(b"IDAT", compressed))
            previous = rows[-1:].copy()
        write(_chunk(b"IDAT", stream.flush()))
        if note is not None:
            file.write(png_chunk_from_note(digest, note))
        file.write(PNG_END)


def _strips(path: Path, width: int, height: int, blocks: Iterable[Pixels], grey: bool) -> Iterator[Pixels]:
    """The blocks' rows, checked, a few dozen at a time, (rows, width, channels)."""
    done = 0
    row = (width,) if grey else (width, 3)
    for block in blocks:
        if block.dtype != np.uint8 or block.shape[1:] != row:
            raise ImageError(
                f"writing {path}: expected rows of 8-bit pixels (rows, {', '.join(map(str, row))}), found "
                f"{block.dtype} of shape {tuple(block.shape)} after row {done}."
            )
        done += block.shape[0]
        if done > height:
            break
        for top in range(0, block.shape[0], _ROWS_AT_A_TIME):
            strip = block[top : top + _ROWS_AT_A_TIME]
            yield strip[:, :, None] if grey else strip
    if done != height:
        found = f"more than {height}" if done > height else str(done)
        raise ImageError(f"writing {path}: expected {height} rows, found {found}; nothing was written.")


def _filtered(rows: Pixels, previous: Pixels) -> bytes:
    """The rows as PNG filters them, each with whichever of Sub, Up and Paeth leaves the smallest differences.

    The sum of absolute differences, taken as signed bytes, is the choice the PNG specification suggests (12.7).
    """
    here = rows.astype(np.int16)
    up = np.concatenate([previous, rows[:-1]]).astype(np.int16)
    left = np.pad(here, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    up_left = np.pad(up, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    predictions = {1: left, 2: up, 4: _paeth(left, up, up_left)}
    residuals = {number: (here - guess).astype(np.uint8) for number, guess in predictions.items()}
    numbers = np.array(list(residuals))
    costs = np.stack([np.abs(r.view(np.int8).astype(np.int16)).sum(axis=(1, 2)) for r in residuals.values()])
    chosen = numbers[costs.argmin(axis=0)]
    return b"".join(bytes([number]) + residuals[int(number)][row].tobytes() for row, number in enumerate(chosen))


def _paeth(left: NDArray[np.int16], up: NDArray[np.int16], up_left: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of left, up and up-left the one nearest to left + up - up_left; ties in that order."""
    to_left, to_up = np.abs(up - up_left), np.abs(left - up_left)
    to_up_left = np.abs(left + up - 2 * up_left)
    return np.where((to_left <= to_up) & (to_left <= to_up_left), left, np.where(to_up <= to_up_left, up, up_left))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
