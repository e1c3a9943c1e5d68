"""What the formats share that OpenImageIO reads: more than 8 bits per channel. A package of the extra `images`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from deploy.errors import ImageError
from deploy.images.formats.contract import DamageError, missing
from deploy.images.picture import Samples

_LOG = logging.getLogger(__name__)
_DTYPES = {"uint8": np.uint8, "uint16": np.uint16, "half": np.float32, "float": np.float32, "double": np.float32}


def openimageio(what: str) -> Any:
    """The module; `what` needs it, as the sentence says where it is not installed."""
    try:
        import OpenImageIO
    except ImportError as error:
        raise missing("OpenImageIO", what) from error
    return OpenImageIO


def name_for_library(file: BinaryIO) -> str:
    """A name by which a library opens the file that is open here, whatever happened to its own name."""
    if sys.platform == "linux":
        return f"/proc/self/fd/{file.fileno()}"
    return str(file.name)


@contextmanager
def image_input(file: BinaryIO, what: str) -> Iterator[Any]:
    """OpenImageIO's reader of a file, which leaves alpha apart from the colours, and colours as they are."""
    module = openimageio(what)
    hints = module.ImageSpec()
    hints.attribute("oiio:UnassociatedAlpha", 1)
    hints.attribute("oiio:RawColor", 1)
    file.seek(0)
    reader = module.ImageInput.open(name_for_library(file), hints)
    if reader is None:
        _LOG.info("OpenImageIO: %s", module.geterror().strip())
        raise DamageError("it cannot be opened")
    try:
        yield reader
    finally:
        reader.close()


def dtype_of(spec: Any, what: str) -> np.dtype[Any]:
    """Of the samples that `samples` returns; what this tool has no place for is refused."""
    found = _DTYPES.get(str(spec.format))
    if found is None:
        raise ImageError(f"{what} of {spec.format} samples cannot be read. Convert it to 16 bits or float.")
    return np.dtype(found)


def samples(reader: Any, subimage: int, channels: int, what: str) -> Samples:
    """(H, W, channels) of a picture, in a kind that holds all its bits."""
    spec = reader.spec(subimage)
    dtype = dtype_of(spec, what)
    kind = {np.dtype(np.uint8): "uint8", np.dtype(np.uint16): "uint16"}.get(dtype, "float")
    pixels = reader.read_image(subimage, 0, 0, channels, kind)
    if pixels is None:
        _LOG.info("OpenImageIO: %s", reader.geterror().strip())
        raise DamageError("its pixels cannot be read")
    return np.asarray(pixels, dtype).reshape(spec.height, spec.width, channels)
