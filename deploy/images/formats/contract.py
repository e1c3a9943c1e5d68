"""What a format of picture files owes the rest: one record each, in the table beside this file.

A `Format` recognises its files, opens one picture of them (the header first, so that size and depth are known before
anything is unfolded) and, if it has a `Writer`, writes them. What comes back from `Opened.decode` is as stored:
turning it upright, taking alpha apart and converting CMYK are done once for all formats, by deploy.images.reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from deploy.errors import MissingPackage
from deploy.images.picture import DTYPES, Metadata, Samples
from deploy.images.sizes import Size

DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, ArithmeticError, RuntimeError)
"""What decoders raise on damaged files, beside `struct.error`."""


MOST_FRAMES = 10_000
"""Of an animation: far more than anybody would enlarge, and few enough to make a list of them."""


class DamageError(ValueError):
    """What is wrong with a file, in words for people: of what libraries raise, only the log tells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """A picture of a file, whose header was read and whose pixels were not.

    size: as stored, before it is turned. mode: L, LA, RGB, RGBA or CMYK, what `decode` gives, or P where these come
    from a palette. decode: (H, W, C) uint8, uint16 or float32, full light being the highest value. decoding_bytes: of
    each pixel, the memory that `decode` takes at its peak, samples included; None: the samples twice. frames: how many
    pictures the file holds. `premultiplied`: the colours are multiplied with alpha.
    """

    size: Size
    mode: str
    bits: int
    decode: Callable[[], Samples]
    decoding_bytes: int | None = None
    frames: int = 1
    orientation: int = 1
    is_lossless: bool = False
    premultiplied: bool = False
    profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A picture that is to be written, but for its pixels.

    bits: 8, 16 or 32 (float). quality: 1 to 100 for formats that lose something, None: their usual. note: of ours, see
    deploy.images.notes.
    """

    size: Size
    grey: bool = False
    alpha: bool = False
    bits: int = 8
    profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    quality: int | None = None
    note: bytes | None = None

    @property
    def channels(self) -> int:
        """1 to 4."""
        return (1 if self.grey else 3) + self.alpha

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the samples."""
        return DTYPES[self.bits]

    @property
    def row_bytes(self) -> int:
        """Of one row of samples."""
        return self.size.width * self.channels * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True)
class Writer:
    """How a format is written, and what of a picture it can hold.

    write: (file, outline, rows) where rows are blocks (rows, W, C) of the outline's dtype, from top to bottom, checked.
    is_streamed: it needs a few dozen rows at a time, others the whole picture. keeps: of grey, alpha, grey with alpha,
    profile, exif, xmp, iptc, dpi, quality; without grey, three equal channels stand for one. check: raises
    MissingPackage where something is not installed.
    """

    write: Callable[[BinaryIO, Outline, Iterator[Samples]], None]
    bits: tuple[int, ...]
    keeps: frozenset[str]
    longest_side: int
    is_streamed: bool = False
    is_lossless: bool = True
    check: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format of picture files.

    begins: whether a file is one that starts so, with these first 64 bytes. open: (file, number of a frame or page).
    canvas: the size that a file says, where opening it takes memory for pixels already; None where it does not say one.
    """

    name: str  # as on the command line
    title: str
    suffixes: tuple[str, ...]
    begins: Callable[[bytes], bool]
    open: Callable[[BinaryIO, int], Opened]
    canvas: Callable[[BinaryIO], Size | None] = lambda _: None
    writer: Writer | None = None


def whole_picture(outline: Outline, rows: Iterator[Samples]) -> Samples:
    """All rows as one array (H, W, C)."""
    whole = np.empty((*outline.size, outline.channels), outline.dtype)
    top = 0
    for block in rows:
        whole[top : top + len(block)] = block
        top += len(block)
    return whole


def missing(package: str, what: str) -> MissingPackage:
    """To be raised where a format needs a package of the extra `images`."""
    return MissingPackage(f"{what} needs {package}: pip install 'idm-deploy[images]'.")
