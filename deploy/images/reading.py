"""Picture files in: any format of the table, as one record, with all bits, upright, nothing left out without a word.

What a file is taken for depends on its content, not on its name. Its size is read from the header and held against the
limits, of pixels and of memory, before anything is unfolded.
"""

from __future__ import annotations

import logging
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from deploy.errors import DeployError, ImageError
from deploy.foreign.places import refusal_of_address
from deploy.images.formats.contract import DAMAGE, MOST_FRAMES, DamageError, Format, Opened
from deploy.images.formats.table import FORMATS, format_of_content
from deploy.images.orientation import TURNED, upright
from deploy.images.picture import HIGHEST, Origin, Picture, Samples
from deploy.images.profiles import srgb_from_cmyk, usable_profile
from deploy.images.sizes import Size

NEVER_REFUSED = 16 << 20
"""Bytes that a picture may take to read whatever memory is left: whether it can be enlarged is known later, and more
exactly."""

MAX_PIXELS = 250_000_000
"""Largest picture read by default: 750 MB as RGB. A guard against files made to exhaust memory."""

_DAMAGE = (*DAMAGE, struct.error, zlib.error)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file's header says: format, size upright, bits per channel, frames, whether it is lossless.

    has_alpha: though that may be opaque everywhere. may_be_transparent: it has, or is of a palette, whose colours may
    have some.
    """

    format: Format
    size: Size
    bits: int
    frames: int
    is_lossless: bool
    has_alpha: bool
    may_be_transparent: bool


def read_picture(
    path: str | Path, *, frame: int | None = None, max_pixels: int = MAX_PIXELS, room: int | None = None
) -> Picture:
    """The picture in a file. frame: of an animation or of several pages, from 0; None: the first, said in `changes`.

    room: bytes of memory that reading may take; None: as many as it needs.
    """
    with _opened(Path(path), frame or 0, max_pixels, room) as (record, opened):
        check_room(path, opened.size, _bytes_to_read(opened), room)
        if frame is not None and not 0 <= frame < opened.frames:
            raise ImageError(f"reading {path}: it has {opened.frames} frames, and no number {frame} among them.")
        return _picture(Path(path), record, opened, frame)


def read_header(path: str | Path, *, max_pixels: int = MAX_PIXELS, room: int | None = None) -> Header:
    """What can be known of the picture in a file without unfolding it. The limits are for formats whose libraries do.

    room: bytes of memory that they may take for that; None: as many as they need.
    """
    with _opened(Path(path), 0, max_pixels, room) as (record, opened):
        height, width = opened.size
        return Header(
            format=record,
            size=Size(width, height) if opened.orientation in TURNED else opened.size,
            bits=opened.bits,
            frames=opened.frames,
            is_lossless=opened.is_lossless,
            has_alpha=opened.mode.endswith("A"),
            may_be_transparent=opened.mode.endswith("A") or opened.mode == "P",
        )


@contextmanager
def _opened(path: Path, frame: int, max_pixels: int, room: int | None) -> Iterator[tuple[Format, Opened]]:
    """The format and the header; what a decoder raises about damage inside the block becomes a sentence."""
    with open_regular(path) as file, warnings.catch_warnings():
        # Pillow warns about damaged metadata; what matters here is whether the pixels can be read.
        warnings.simplefilter("ignore")
        try:
            record = format_of_content(file)
            if record is None:
                titles = [other.title for other in FORMATS.values()]
                raise ImageError(
                    f"reading {path}: this is not a {', '.join(titles[:-1])} or {titles[-1]} picture by its content, "
                    "whatever its name says. Convert it to one of these."
                )
            if (canvas := record.canvas(file)) is not None:
                _check_size(path, canvas, max_pixels)
                check_room(path, canvas, 3 * prod(canvas), room)
            opened = record.open(file, frame)
            _check_size(path, opened.size, max_pixels)
            if opened.frames > MOST_FRAMES:
                raise ImageError(
                    f"reading {path}: it says that it has more than {MOST_FRAMES} frames. Save the one that you want "
                    "by itself."
                )
            yield record, opened
        except DeployError as error:
            if str(path) in str(error):
                raise
            raise type(error)(f"reading {path}: {error}") from error
        except Image.DecompressionBombError as error:  # of frames that are larger than their file says
            raise ImageError(f"reading {path}: {error}") from error
        except MemoryError as error:
            raise ImageError(f"reading {path}: there is not enough memory for its pixels.") from error
        except _DAMAGE as error:
            _LOG.info("reading %s: %s", path, error)
            what = f" ({error})" if isinstance(error, DamageError) else ""
            raise ImageError(
                f"reading {path}: the file is damaged or cut short{what}. Get it again from its source."
            ) from error


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading; pipes and devices are refused, as opening them may block for ever."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"reading {path}: this is a folder, expected a picture. Name the file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"reading {path}: this is not a regular file, expected a picture. Copy it first.")
        if status.st_size == 0:
            raise ImageError(f"reading {path}: the file is empty. Get it again from its source.")
        return path.open("rb")
    except FileNotFoundError as error:
        if (address := refusal_of_address(path)) is not None:
            raise ImageError(address) from error
        if path.is_symlink():
            raise ImageError(
                f"reading {path}: it is a link to {path.readlink()}, which is not there. Mend or remove the link."
            ) from error
        raise ImageError(f"reading {path}: there is no such file. Check the name and the folder.") from error
    except OSError as error:
        raise ImageError(
            f"reading {path}: {error.strerror}. Check the permissions of the file and its folders."
        ) from error


def _check_size(path: Path, size: Size, max_pixels: int) -> None:
    if min(size) < 1:
        raise DamageError(f"its header says {size} pixels")
    if prod(size) > max_pixels:
        raise ImageError(
            f"reading {path}: it has {size} = {prod(size)} pixels, the limit is {max_pixels}. "
            "Raise the limit with `max_pixels` if you trust the file and have the memory."
        )


def check_room(path: str | Path, size: Size, needed: int, room: int | None) -> None:
    """ImageError if a picture of that size needs more bytes than there is room for."""
    if room is not None and needed > max(room, NEVER_REFUSED):
        raise ImageError(
            f"reading {path}: its {size} pixels take about {needed / 2**20:.0f} MiB of memory, of which "
            f"{max(room, 0) / 2**20:.0f} MiB may be taken. Allow more with `max_memory`, or make the picture smaller "
            "or cut it before."
        )


def _bytes_to_read(opened: Opened) -> int:
    """The memory that is taken at the peak of reading: while the pixels are unfolded, or while they are converted."""
    channels = 3 if opened.mode == "P" else len(opened.mode)
    held = channels * (1 if opened.bits <= 8 else opened.bits // 8)
    # Turning a picture and taking its alpha apart copy it, and so does what converts CMYK, several times.
    copies = 6 if opened.mode == "CMYK" else 2 if opened.orientation != 1 or opened.mode.endswith("A") else 1
    return prod(opened.size) * max(opened.decoding_bytes or 2 * held, copies * held)


def _picture(path: Path, record: Format, opened: Opened, frame: int | None) -> Picture:
    pixels = opened.decode()
    frames = opened.frames
    if Size.of(pixels) != opened.size and not frame:
        raise DamageError(f"its header says {opened.size}, its pixels {Size.of(pixels)}")
    if pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError(f"reading {path}: some of its values are no numbers (NaN or infinite). Repair it first.")
    changes = list(opened.changes)
    if frames > 1 and frame is None:
        changes.append(f"it has {frames} frames, of which the first is taken")
    pixels = upright(pixels, opened.orientation)
    if opened.mode == "CMYK":
        colour, change = srgb_from_cmyk(_in_8_bits(pixels), opened.profile)
        alpha, profile = None, None
        changes += [change, *(["16 bits per channel become 8"] if pixels.dtype == np.uint16 else [])]
    else:
        colour, alpha = _apart(pixels, premultiplied=opened.premultiplied)
        profile, problem = usable_profile(opened.profile, grey=colour.ndim == 2)
        changes += [problem] if problem else []
    if alpha is not None and (alpha >= HIGHEST[alpha.dtype]).all():
        alpha = None
        changes.append("its alpha is opaque everywhere and is left out")
    if opened.metadata.comment:
        changes.append("its comment is not kept")
    return Picture(
        colour=colour,
        alpha=alpha,
        profile=profile,
        metadata=opened.metadata,
        origin=Origin(
            format=record.name,
            mode=opened.mode,
            bits=opened.bits,
            orientation=opened.orientation,
            frames=frames,
            is_lossless=opened.is_lossless,
        ),
        changes=tuple(changes),
    )


def _apart(pixels: Samples, *, premultiplied: bool) -> tuple[Samples, Samples | None]:
    """Colours, (H, W) where they have one channel, and alpha."""
    channels = pixels.shape[2]
    count = 1 if channels < 3 else 3
    colour = pixels[:, :, 0] if count == 1 else pixels[:, :, :3]
    alpha = pixels[:, :, count] if channels > count else None
    if alpha is not None and premultiplied:
        highest = HIGHEST[pixels.dtype]
        share = alpha / np.float32(highest)
        share = share if count == 1 else share[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            divided = np.where(share > 0, colour / share, 0)
        colour = divided if pixels.dtype == np.float32 else np.rint(np.clip(divided, 0, highest))
    # One channel apart from the others would keep all of them in memory.
    return np.ascontiguousarray(
        colour.astype(pixels.dtype, copy=False)
    ), None if alpha is None else np.ascontiguousarray(alpha)


def _in_8_bits(pixels: Samples) -> Samples:
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(np.clip(pixels * (255.0 / HIGHEST[pixels.dtype]), 0, 255)).astype(np.uint8)
