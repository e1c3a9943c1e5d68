"""Contact sheets: pictures side by side under their names, to be looked at.

Small pictures are enlarged by nearest neighbour, so that what is seen are the pixels and not a filter.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deploy.errors import ImageError

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PAPER = (255, 255, 255)
_INK = (28, 30, 34)
_GREY = (105, 110, 118)
_EDGE = (222, 224, 228)
_GAP = 16
_LABEL_SIZE = 15
_NOTE_SIZE = 13
_TITLE_SIZE = 22
_LEADING = 1.35  # line height over font size


def contact_sheet(rows: Sequence[Sequence[tuple[str, Pixels]]], *, side: int = 256, title: str | None = None) -> Pixels:
    """One picture (H, W, 3) with every picture of `rows` in its row, fitted into side x side, under its label.

    A label's first line is its name, further lines are notes in grey. Rows may differ in length.
    """
    if not any(rows) or side < 1:
        raise ImageError(f"drawing a contact sheet: expected pictures and tiles of at least 1 pixel, found {side}.")
    columns = max(len(row) for row in rows)
    label_heights = [max((_label_height(label) for label, _ in row), default=0) for row in rows]
    tile_heights = [max((_fitted(pixels, side)[1] for _, pixels in row), default=0) for row in rows]
    top = _GAP + (round(_TITLE_SIZE * _LEADING) + _GAP // 2 if title else 0)
    width = _GAP + columns * (side + _GAP)
    sheet = Image.new("RGB", (width, top + sum(label_heights) + sum(tile_heights) + _GAP * len(rows)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        _draw_line(draw, (_GAP, _GAP - 2), title, _font(_TITLE_SIZE), _INK, width - 2 * _GAP)
    for row, label_height, tile_height in zip(rows, label_heights, tile_heights, strict=True):
        for column, (label, pixels) in enumerate(row):
            left = _GAP + column * (side + _GAP)
            _draw_label(draw, (left, top), label, side)
            _paste(sheet, draw, (left, top + label_height), pixels, side)
        top += label_height + tile_height + _GAP
    return np.array(sheet)


def _fitted(pixels: Pixels, side: int) -> tuple[int, int]:
    """(width, height) of the picture with its longer edge at `side`."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], pixels: Pixels, side: int) -> None:
    """The picture at `corner`, with a hairline around it that shows where a white picture ends."""
    size = _fitted(pixels, side)
    enlarged = size[0] >= pixels.shape[1]
    resample = Image.Resampling.NEAREST if enlarged else Image.Resampling.BICUBIC
    left, top = corner
    draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=_EDGE)
    sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, resample), (left, top))


def _label_height(label: str) -> int:
    if not label:
        return 0
    return round(_LABEL_SIZE * _LEADING + label.count("\n") * _NOTE_SIZE * _LEADING) + 4


def _draw_label(draw: ImageDraw.ImageDraw, corner: tuple[int, int], label: str, width: int) -> None:
    top = float(corner[1])
    for index, line in enumerate(label.split("\n")):
        size, colour = (_NOTE_SIZE, _GREY) if index else (_LABEL_SIZE, _INK)
        _draw_line(draw, (corner[0], round(top)), line, _font(size), colour, width)
        top += size * _LEADING


def _draw_line(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    font: Font,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """The text in one line, its end replaced by an ellipsis where it would leave `width`."""
    shown = text
    while draw.textlength(shown, font) > width and len(text) > 1:
        text = text[:-1]
        shown = text.rstrip() + "…"
    draw.text(corner, shown, fill=colour, font=font)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
