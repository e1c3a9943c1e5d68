"""Pictures into files: any format of the table that is written, complete under its name or not at all.

What of a picture the format cannot hold is asked beforehand (`changes_of`), and said or refused before any work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.errors import ImageError
from deploy.images import exif, xmp
from deploy.images.background import colour_from_text
from deploy.images.colour_fix import DEFAULT_COLOR_FIX, check_way
from deploy.images.formats.contract import Format, Outline, Writer
from deploy.images.formats.table import FORMATS, WRITTEN, WRITTEN_SUFFIXES, format_of_suffix
from deploy.images.picture import Metadata, Picture, Samples
from deploy.images.profiles import kind_of
from deploy.images.sizes import Size
from deploy.images.tags import TagError
from engines.new_files import new_file
from engines.paths import is_folder_there

_MOST_IN_JPEG = 65_000
"""Bytes of EXIF or XMP that fit into a segment of a JPEG."""


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What results are like as files: all that `infer` is told of them besides their size.

    format: by its name in the table; None: that of the input where it is lossless, else PNG. quality: 1 to 100, for
    formats that lose something. color_fix: see deploy.images.colour_fix. background: white, black or #rrggbb, which
    transparent results are laid over; None: they stay transparent.
    """

    format: str | None = None
    quality: int | None = None
    strip_metadata: bool = False
    color_fix: str = DEFAULT_COLOR_FIX
    background: str | None = None

    def __post_init__(self) -> None:
        check_way(self.color_fix)
        if self.background is not None:
            colour_from_text(self.background)
        if self.format is not None:
            written_format(self.format)
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ImageError(f"`quality` goes from 1 to 100, found {self.quality}.")
        if self.format is not None:
            self.check_quality(FORMATS[self.format])

    def check_quality(self, record: Format) -> None:
        """A quality was asked for only if files of this format have one."""
        if self.quality is not None and "quality" not in _writer(record.name).keeps:
            raise ImageError(
                f"{record.title} keeps every pixel and takes no `quality`; leave it out, or choose "
                f"{_titles_with('quality')}."
            )

    def check_quality_of_default(self) -> None:
        """No quality was asked for where nothing says the format: such results keep every pixel."""
        if self.quality is not None and self.format is None:
            names = [name for name in WRITTEN if "quality" in _writer(name).keeps]
            raise ImageError(
                "Results whose format nobody names keep every pixel (PNG, or the input's format where that is "
                f"lossless) and take no `quality`; choose a `format` that does ({_listed(names, 'or')}), or leave it "
                "out."
            )


def written_format(name: str) -> Format:
    """The format of that name, if it is one that is written."""
    if name not in WRITTEN:
        raise ImageError(f"`format` is one of {', '.join(WRITTEN)}, found {name!r}.")
    return FORMATS[name]


def format_for(target: Path | None, origin: str, *, is_lossless: bool, saving: Saving) -> Format:
    """What a result is written as: what `target` or `saving` asks for, else the input's format if lossless, else PNG.

    target: the file that was named, None where its name is still to be made.
    """
    record = FORMATS[saving.format] if saving.format is not None else None
    if target is not None:
        named = format_of_suffix(target)
        if named is None:
            raise suffix_refused(target)
        if record not in (None, named):
            raise ImageError(
                f"writing {target}: the name asks for {named.title}, `format` for {record.title}. Give one of them."
            )
        record = named
    if record is None:
        record = FORMATS[origin] if is_lossless and origin in WRITTEN else FORMATS["png"]
    saving.check_quality(record)
    return record


def holds_profile(record: Format, picture: Picture) -> bool:
    """Whether a file of this format can have the picture's profile: one for grey only beside one channel."""
    keeps = _writer(record.name).keeps
    channels = "grey with alpha" if picture.alpha is not None else "grey"
    is_for_grey = picture.profile is not None and kind_of(picture.profile) == "GRAY"
    return "profile" in keeps and (not is_for_grey or channels in keeps)


def suffix_refused(path: Path) -> ImageError:
    """Of a name that no picture can be written under."""
    folder = "" if path.suffix else ", or end the name with / if it is a folder"
    return ImageError(
        f"writing {path}: the suffix {path.suffix!r} names no format that can be written; "
        f"use one of {', '.join(WRITTEN_SUFFIXES)}{folder}."
    )


def outline_for(
    picture: Picture,
    size: Size,
    record: Format,
    saving: Saving,
    *,
    profile: bytes | None,
    note: bytes | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Outline:
    """What is to be written of an upright result of `picture` at `size`, in a format.

    profile: of the result's colours. provenance: facts on how it was made, unless metadata are stripped.
    """
    writer = _writer(record.name)
    metadata = Metadata()
    if not saving.strip_metadata:
        metadata = _kept(corrected(picture.metadata, size), writer, provenance or {})
    return Outline(
        size=size,
        grey=picture.is_grey,
        alpha=picture.alpha is not None,
        bits=_bits(picture, writer),
        profile=profile if "profile" in writer.keeps else None,
        metadata=metadata,
        quality=saving.quality,
        note=note,
    )


def changes_of(picture: Picture, record: Format, saving: Saving, *, profile: bytes | None) -> list[str]:
    """What of a picture a file of this format does not hold, in words; ImageError where that would change it."""
    writer = _writer(record.name)
    writer.check()
    if picture.alpha is not None and "alpha" not in writer.keeps:
        raise ImageError(
            f"it has transparency, which {record.title} does not hold. Lay it over a colour with `background` (white, "
            f"black or #rrggbb), or write {_titles_with('alpha')}."
        )
    changes = []
    bits = _bits(picture, writer)
    if bits < picture.bits:
        before = "floating-point numbers" if picture.bits == 32 else f"{picture.bits} bits per channel"
        changes.append(f"{before} become {bits} bits in {record.title}")
    if saving.strip_metadata:
        return changes
    metadata = picture.metadata
    lost = [
        name
        for name, value, key in (
            ("colour profile", profile, "profile"),
            ("EXIF", metadata.exif, "exif"),
            ("XMP", metadata.xmp, "xmp"),
            ("IPTC", metadata.iptc, "iptc"),
        )
        if value and key not in writer.keeps
    ]
    if metadata.dpi and not {"dpi", "exif"} & writer.keeps:
        lost.append(dpi_in_words(metadata.dpi))
    if lost:
        are = "are" if len(lost) > 1 or lost[0].endswith("DPI") else "is"
        changes.append(f"its {_listed(lost)} {are} not kept in {record.title}")
    return changes


def corrected(metadata: Metadata, size: Size) -> Metadata:
    """The same, saying that the picture is upright and of `size`. A damaged EXIF block is dropped."""
    block = None
    understood = exif.exif_of(metadata.exif)
    if understood is not None:
        try:
            block = understood.corrected(size)
        except TagError:
            block = None
    return replace(metadata, exif=block, xmp=xmp.corrected(metadata.xmp, size) if metadata.xmp else None)


def write_picture(path: Path, record: Format, outline: Outline, rows: Iterable[Samples]) -> None:
    """`path` holds the picture whose rows the blocks bring from top to bottom, replacing what was there.

    rows: (rows, W, C) of the outline's dtype and channels, in any heights that add up.
    """
    check_format(path, outline.size, record)
    check_folder(path)
    if min(outline.size) < 1:
        raise ImageError(f"writing {path}: the size is {outline.size}, expected at least one pixel.")
    with new_file(path) as file:
        _writer(record.name).write(file, outline, _checked(path, outline, iter(rows)))


def check_format(path: Path, size: Size | None = None, record: Format | None = None) -> None:
    """The suffix of `path` names a format that is written, or `record` is it, and holds a picture of `size`."""
    record = record or format_of_suffix(path)
    if record is None or record.writer is None:
        raise suffix_refused(path)
    record.writer.check()
    limit = record.writer.longest_side
    if size is not None and max(size) > limit:
        raise ImageError(
            f"writing {path}: the picture is {size}, but this format holds at most {limit} pixels a side; write PNG."
        )


def check_folder(path: Path) -> None:
    """The folder of `path` is there, and files can be made in it."""
    try:
        if not is_folder_there(path.parent):
            raise ImageError(f"writing {path}: the folder {path.parent} does not exist. Create it first.")
        # Only trying tells: permission bits do not know of read-only file systems and mounts.
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ImageError(
            f"writing {path}: the folder {path.parent} cannot be written to ({error.strerror}). "
            "Change its permissions or choose another folder."
        ) from error


def dpi_in_words(dpi: tuple[float, float]) -> str:
    """A resolution as people say it."""
    across, down = round(dpi[0]), round(dpi[1])
    return f"{across} DPI" if across == down else f"{across}x{down} DPI"


def _writer(name: str) -> Writer:
    writer = FORMATS[name].writer
    assert writer is not None  # only names of WRITTEN come here
    return writer


def _titles_with(what: str) -> str:
    return _listed([FORMATS[name].title for name in WRITTEN if what in _writer(name).keeps], "or")


def _bits(picture: Picture, writer: Writer) -> int:
    """The least that hold the picture's, or the most that the format has."""
    return min((bits for bits in writer.bits if bits >= picture.bits), default=max(writer.bits))


def _kept(metadata: Metadata, writer: Writer, provenance: Mapping[str, str]) -> Metadata:
    """What the format holds of it, with how the picture was made."""
    block = metadata.exif
    if block is None and metadata.dpi and "dpi" not in writer.keeps:
        block = exif.block_of_resolution(metadata.dpi)
    packet = xmp.with_provenance(metadata.xmp, provenance) if provenance else metadata.xmp
    if writer is _writer("jpeg"):
        block = block if block is None or len(block) <= _MOST_IN_JPEG else None
        packet = packet if packet is None or len(packet) <= _MOST_IN_JPEG else None
    return Metadata(
        exif=block if "exif" in writer.keeps else None,
        xmp=packet if "xmp" in writer.keeps else None,
        iptc=metadata.iptc if "iptc" in writer.keeps else None,
        dpi=metadata.dpi if "dpi" in writer.keeps else None,
    )


def _checked(path: Path, outline: Outline, rows: Iterator[Samples]) -> Iterator[Samples]:
    """The blocks, each as it should be, and all rows of the picture; nothing is written otherwise."""
    height, width = outline.size
    done = 0
    for block in rows:
        if block.dtype != outline.dtype or block.shape[1:] != (width, outline.channels):
            raise ImageError(
                f"writing {path}: expected rows of {outline.dtype} pixels (rows, {width}, {outline.channels}), found "
                f"{block.dtype} of shape {tuple(block.shape)} after row {done}."
            )
        done += block.shape[0]
        if done > height:
            break
        if len(block):
            yield block
    if done != height:
        found = f"more than {height}" if done > height else str(done)
        raise ImageError(f"writing {path}: expected {height} rows, found {found}; nothing was written.")


def _listed(names: list[str], word: str = "and") -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), names[-1])))
