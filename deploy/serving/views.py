"""Pictures as a browser shows them: previews, a result in any format, and an input enlarged without a model."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from deploy.images.formats.contract import Outline
from deploy.images.formats.table import FORMATS
from deploy.images.picture import HIGHEST, Samples
from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.values import Pixels
from deploy.images.view import View
from deploy.images.writing import write_picture
from deploy.serving.kinds import BICUBIC, RESULT

if TYPE_CHECKING:
    from deploy.folders.request import Request

PREVIEW_EDGE = 512
"""Pixels of a preview's longer side."""

ROWS = 64


def preview_address(pixels: Pixels) -> str:
    """A small JPEG as a data: address."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((PREVIEW_EDGE, PREVIEW_EDGE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_view(request: "Request", target: Path, kind: str) -> None:
    """`target` is an opaque PNG of 8 bits, as a network sees pictures: in sRGB.

    INPUT: the pixels of the request's picture repeated, at the size of its result. BICUBIC: enlarged by interpolation.
    RESULT: the picture, which is a result, as it is.
    """
    path = request.images[0]
    source = request.open(path, None)
    size = source.size if kind == RESULT else request.output_size(source.size)
    write_picture(target, FORMATS["png"], Outline(size=size), _rows(source.view, size, kind))


def _rows(view: View, size: Size, kind: str) -> Iterator[Samples]:
    pixels = view.values
    height, width = pixels.shape[:2]
    values = np.moveaxis(pixels, -1, 0).astype(np.float32) / np.float32(HIGHEST[pixels.dtype])
    columns = (np.arange(size.width) * width) // size.width
    for top in range(0, size.height, ROWS):
        span = top, min(top + ROWS, size.height)
        if kind == BICUBIC:
            part = resize_region(values, size, span, (0, size.width))
        else:
            part = values[:, (np.arange(*span) * height) // size.height][:, :, columns]
        yield np.rint(np.clip(np.moveaxis(part, 0, -1), 0, 1) * 255).astype(np.uint8)
