"""A picture with everything that its file says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.images.sizes import Size

Samples = NDArray[Any]
"""uint8, uint16 or float32: 0 to 255, 0 to 65535, or 0 to 1 with values beyond allowed."""

HIGHEST: dict[np.dtype[Any], float] = {
    np.dtype(np.uint8): 255.0,
    np.dtype(np.uint16): 65535.0,
    np.dtype(np.float32): 1.0,
}
"""What stands for full light in each kind of samples."""

BITS: dict[np.dtype[Any], int] = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16, np.dtype(np.float32): 32}
DTYPES: dict[int, np.dtype[Any]] = {bits: dtype for dtype, bits in BITS.items()}


def unit_from_samples(samples: Samples) -> NDArray[np.float32]:
    """The same as float32, full light being 1."""
    if samples.dtype == np.float32:
        return samples
    return samples.astype(np.float32) / np.float32(HIGHEST[samples.dtype])


def samples_from_unit(values: NDArray[np.floating], bits: int) -> Samples:
    """Values from 0 to 1 rounded to samples of 8 or 16 bits, once; floats stay, with what lies beyond."""
    if bits == 32:
        return values.astype(np.float32)
    dtype = DTYPES[bits]
    samples: Samples = np.rint(np.clip(values, 0.0, 1.0).astype(np.float64) * HIGHEST[dtype]).astype(dtype)
    return samples


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file holds beside colours.

    exif: a TIFF structure, as the block in a JPEG after `Exif\\0\\0`. iptc: records of the IIM standard. dpi: pixels
    per inch, across and down.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bool = False  # whether there is a comment, which no result keeps


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the file held: format by its name in the table, channels, bits per channel, orientation, frames.

    mode: L, LA, RGB, RGBA, CMYK, or P for a palette. is_lossless: whether it was stored without loss.
    """

    format: str
    mode: str
    bits: int
    orientation: int = 1
    frames: int = 1
    is_lossless: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture, upright, in the colours of its own `profile` (None: sRGB).

    colour: (H, W, 3), or (H, W) where it has one channel; alpha: (H, W) of the same kind, not multiplied into the
    colours, or None. changes: in words, what of the file was converted or is left out.
    """

    colour: Samples
    alpha: Samples | None = None
    profile: bytes | None = None
    metadata: Metadata = field(default_factory=Metadata)
    origin: Origin
    changes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Of the picture."""
        return Size.of(self.colour)

    @property
    def is_grey(self) -> bool:
        """Whether it has one channel of colour, so that a result of its kind has one too."""
        return self.colour.ndim == 2

    @property
    def bits(self) -> int:
        """Of the samples: 8, 16 or 32 (float)."""
        return BITS[self.colour.dtype]
