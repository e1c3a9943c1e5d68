"""Between a path and pixels, and back: an input as the network sees it, and its result as a file.

    source = open_source(path, saving)                 # reads the file; pixels, size, what is changed
    result = result_of(source, size, saving, target)   # the format; what it cannot hold is said or refused now
    with upscaler.sampled(source.pixels, size, ...) as sampled:
        result.write(path, enlarged_rows(sampled, source, result.bits), note=..., provenance=...)

Nothing here is kept between calls, and the objects may go from thread to thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deploy.errors import DeployError, ImageError
from deploy.families.contract import Float32
from deploy.images.background import Colour, colour_from_text
from deploy.images.formats.contract import Format
from deploy.images.formats.table import FORMATS
from deploy.images.picture import Picture, Samples
from deploy.images.pictures import Pixels
from deploy.images.reading import MAX_PIXELS, check_room, read_header, read_picture
from deploy.images.sizes import Size
from deploy.images.view import View, bytes_for_view
from deploy.images.writing import (
    Saving,
    changes_of,
    format_for,
    holds_profile,
    outline_for,
    write_picture,
)
from deploy.picture.enlarged import Enlarged
from deploy.picture.run import Sampled


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """An input that was read, as the network sees it. frame: the one that was asked for, None where none was."""

    path: Path
    view: View
    frame: int | None = None
    background: Colour | None = None  # that a transparent result is laid over

    @property
    def picture(self) -> Picture:
        """With everything that its file says of it."""
        return self.view.picture

    @property
    def pixels(self) -> Pixels | Float32:
        """What the network sees, (H, W, 3): uint8, or float32 from 0 to 1."""
        return self.view.values

    @property
    def size(self) -> Size:
        """Of what is enlarged."""
        return self.view.picture.size

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel of colour."""
        return self.view.picture.is_grey

    def digest(self) -> str:
        """Of all that a result is made of: samples, colours, and what is kept beside them; whatever the file's form."""
        picture, digest = self.view.picture, hashlib.sha256()
        for part in (picture.colour, picture.alpha):
            if part is not None:
                digest.update(f"{part.shape} {part.dtype}\n".encode())
                digest.update(np.ascontiguousarray(part).data)
        metadata = picture.metadata
        if self.view.shown is not picture:
            digest.update(f"on {self.background}\n".encode())
        for data in (picture.profile, metadata.exif, metadata.xmp, metadata.iptc):
            digest.update(b"none" if data is None else hashlib.sha256(data).digest())
        digest.update(repr(metadata.dpi).encode())
        return digest.hexdigest()[:32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a source becomes as a file at `size`, known before any work.

    changes: in words, what of the source it does not keep.
    """

    source: Source
    size: Size
    format: Format
    saving: Saving
    changes: tuple[str, ...]

    @property
    def bits(self) -> int:
        """Of its samples: 8, 16 or 32 (floats)."""
        return outline_for(self.source.view.shown, self.size, self.format, self.saving, profile=None).bits

    @property
    def is_streamed(self) -> bool:
        """Whether the file is written as its rows come, rather than from the whole picture."""
        writer = self.format.writer
        return writer is not None and writer.is_streamed

    @property
    def pixel_bytes(self) -> int:
        """Memory for each pixel of a picture that is not streamed: all rows, and the encoder's copy of them."""
        return 2 * self.source.view.channels * self.bits // 8

    def write(
        self,
        path: Path,
        rows: Iterable[Samples],
        *,
        note: bytes | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """`path` holds it. rows: blocks (rows, W, C) of `bits`, as `enlarged_rows` makes them."""
        outline = outline_for(
            self.source.view.shown,
            self.size,
            self.format,
            self.saving,
            profile=self.source.view.profile,
            note=note,
            provenance=provenance,
        )
        try:
            write_picture(path, self.format, outline, rows)
        except MemoryError as error:
            raise ImageError(
                f"writing {path}: {self.format.title} needs the whole picture in memory, and there is not enough. "
                "Write PNG or TIFF, which are written row by row."
            ) from error


def open_source(
    path: Path,
    saving: Saving | None = None,
    *,
    frame: int | None = None,
    max_pixels: int | None = None,
    room: int | None = None,
) -> Source:
    """The picture in a file, as the network will see it. room: bytes of memory that it may take; None: any."""
    saving = saving or Saving()
    picture = read_picture(path, frame=frame, max_pixels=MAX_PIXELS if max_pixels is None else max_pixels, room=room)
    check_room(path, picture.size, bytes_for_view(picture), room)
    background = None if saving.background is None else colour_from_text(saving.background)
    view = View(picture, color_fix=saving.color_fix, background=background)
    return Source(path=path, view=view, frame=frame, background=background)


def result_of(source: Source, size: Size, saving: Saving, target: Path | None = None) -> Result:
    """What the source becomes; `target` is the file that was named for it, None where its name is made of its own."""
    origin = source.picture.origin
    record = format_for(target, origin.format, is_lossless=origin.is_lossless, saving=saving)
    if source.view.profile is not None and not holds_profile(record, source.view.shown):
        source = replace(source, view=source.view.in_srgb())
    changes = [*source.picture.changes, *source.view.changes]
    try:
        changes += changes_of(source.view.shown, record, saving, profile=source.view.profile)
    except ImageError as error:
        raise ImageError(f"reading {source.path}: {error}") from error
    return Result(source=source, size=size, format=record, saving=saving, changes=tuple(changes))


def result_suffix(path: Path, saving: Saving) -> str:
    """The suffix of a result whose name is made of its input's, from the header alone; .png where it cannot be read."""
    if saving.format is not None:
        return FORMATS[saving.format].suffixes[0]
    try:
        header = read_header(path)
        record = format_for(None, header.format.name, is_lossless=header.is_lossless, saving=saving)
    except DeployError:  # told when its turn comes
        record = FORMATS["png"]
    return record.suffixes[0]


def enlarged_rows(sampled: Sampled, source: Source, bits: int, index: int = 0) -> Iterator[Samples]:
    """Rows of the picture with that number in a batch, blocks (rows, W, C) from top to bottom, in `bits`."""
    return Enlarged(sampled=sampled, view=source.view, index=index).rows(bits)
