"""What a network sees of a picture, and how what it makes of that becomes a picture of the same kind again.

A network sees three channels of sRGB without transparency. The rest of the picture goes around it: alpha is enlarged
beside it, and so are parts of colours that lie beyond sRGB (or, of floats, above full light), which are added to the
result before it is turned back into the picture's own colours. Rows come and go a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deploy.images.alpha import alpha_rows, flat_places, nearest_pixels, spread_colours
from deploy.images.background import Colour, laid_over, light_of, on_background
from deploy.images.colour_fix import check_way, fixed_rows
from deploy.images.picture import Picture, Samples, samples_from_unit, unit_from_samples
from deploy.images.profiles import space_of
from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from engines.arrays import Float32

Pixels = NDArray[np.uint8]

_ROWS_AT_A_TIME = 64
_ROUNDING = 1e-6
_BYTES_OF_FLOATS, _BYTES_WITH_ALPHA = 15, 72
"""Of each pixel, what a view takes at its peak beside the picture: of three floats, and of colours that are spread
under what is transparent, which takes floats of several sizes. Seen at 2500x2500 pixels: 12 to 15, and 71."""


class View:
    """Of one picture, and its way to one result. color_fix: one of deploy.images.colour_fix.WAYS.

    background: what a transparent result is laid over, as light, once it is enlarged. `shown` is the picture as it is
    then, whose channels and profile results have.
    """

    def __init__(self, picture: Picture, *, color_fix: str = "none", background: Colour | None = None) -> None:
        check_way(color_fix)
        self.picture = picture
        self.shown = picture if background is None else on_background(picture, background)
        self._ground = None if self.shown is picture or background is None else light_of(background)
        self._fix = color_fix
        self._space = space_of(picture.profile, grey=picture.is_grey)
        self._alpha = None if picture.alpha is None else unit_from_samples(picture.alpha)
        self._returns = self._space is not None and self._space.returns and self.shown.profile is not None
        self._beyond: Float32 | None = None  # (3, H, W): what of the colours no value from 0 to 1 holds
        if picture.bits == 8 and self._space is None and self._alpha is None:
            self.values: Pixels | Float32 = self._three(picture.colour)
        else:
            self.values = self._seen()

    @cached_property
    def is_plain(self) -> bool:
        """Whether 8-bit rows as the network's family makes them are the result's own."""
        return self.picture.bits == 8 and self._space is None and self._alpha is None and self._fix == "none"

    @cached_property
    def has_edges_of_alpha(self) -> bool:
        """Whether there is transparency, and not the same everywhere: something that a network can sharpen."""
        return self._alpha is not None and bool(self._alpha.min() < self._alpha.max())

    @property
    def alpha_seen(self) -> Float32 | None:
        """What the network sees of transparency, to enlarge it as well: three equal channels (H, W, 3) from 0 to 1."""
        if self._alpha is None or not self.has_edges_of_alpha:
            return None
        return np.repeat(self._alpha[:, :, None], 3, axis=2)

    @cached_property
    def _flat(self) -> NDArray[np.bool_] | None:
        """Where (H, W) a transparent picture is flat, and stays so; None where it is nowhere."""
        flat = None if self._alpha is None else flat_places(unit_from_samples(self.values))
        return flat if flat is not None and flat.any() else None

    @property
    def channels(self) -> int:
        """Of the result: 1 to 4."""
        return (1 if self.shown.is_grey else 3) + (self.shown.alpha is not None)

    @property
    def pixel_bytes(self) -> int:
        """What a pixel of the result takes while all of it is kept, with what it is made of."""
        return 3 if self.is_plain else 12 + self.channels * self.picture.colour.dtype.itemsize

    @property
    def profile(self) -> bytes | None:
        """Of the result."""
        return self.shown.profile if self._space is None or self._returns else None

    @property
    def changes(self) -> tuple[str, ...]:
        """What of the picture's colours the result does not keep, in words."""
        if self._space is None or self._returns:
            return ()
        return (f"colours are converted from {self._space.name} to sRGB",)

    def without_color_fix(self) -> View:
        """The same for colours that did not drift."""
        other = copy(self)
        other._fix = "none"
        return other

    def in_srgb(self) -> View:
        """The same on its way to a result in sRGB without a profile, for formats that hold none."""
        other = copy(self)
        other._returns = False
        return other

    def samples(
        self, rows: Iterator[Float32], size: Size, bits: int, alpha: Float32 | None = None
    ) -> Iterator[Samples]:
        """Rows of the result, blocks (rows, W, C) of 1 to 4 channels in `bits` (8, 16 or 32).

        rows: what the network made, blocks (rows, W, 3) of encoded sRGB from 0 to 1. size: of all of it. alpha: (H, W)
        of that size, what the network made of `alpha_seen`; None: by bicubic.
        """
        top = 0
        lr = unit_from_samples(self.values)
        for block in _in_strips(fixed_rows(self._fix, _in_strips(rows), lr, size)):
            span = top, top + len(block)
            top = span[1]
            if self._flat is not None:
                near = np.ix_(*nearest_pixels(self.picture.size, size, span))
                block = np.where(self._flat[near][:, :, None], lr[near], block)
            colours = block
            if self._beyond is not None:
                colours = colours + resize_region(self._beyond, size, span, (0, size.width)).transpose(1, 2, 0)
            share = None
            if self._alpha is not None:
                share = alpha_rows(self._alpha, size, span, None if alpha is None else alpha[slice(*span)])[:, :, None]
            if share is not None and self._ground is not None:
                colours = laid_over(colours, share, self._ground)
            if self._space is not None and self._returns:
                colours = self._space.from_srgb(colours)
            if self.shown.is_grey:
                colours = colours.mean(axis=2, keepdims=True)
            if share is not None and self._ground is None:
                # Where nothing is seen, nothing is said either: files compress better.
                colours = np.concatenate([np.where(share > 0, colours, 0), share], axis=2)
            yield samples_from_unit(colours, bits)

    def _three(self, colour: Samples) -> Samples:
        return np.repeat(colour[:, :, None], 3, axis=2) if colour.ndim == 2 else colour

    def _seen(self) -> Float32:
        """What the network sees; what that leaves out goes into `_beyond`. A few rows at a time: floats take room."""
        values = np.empty((*self.picture.colour.shape[:2], 3), np.float32)
        strips = [slice(top, top + _ROWS_AT_A_TIME) for top in range(0, len(values), _ROWS_AT_A_TIME)]
        for rows in strips:
            part = self._three(unit_from_samples(self.picture.colour[rows]))
            values[rows] = part if self._space is None else self._space.srgb_from(part)
        if self._alpha is not None:
            values = spread_colours(values, self._alpha)
        # Rounding of a matrix is no colour beyond.
        if values.min() < -_ROUNDING or values.max() > 1.0 + _ROUNDING:
            beyond = np.empty((3, *values.shape[:2]), np.float32)
            for rows in strips:
                seen = np.clip(values[rows], 0.0, 1.0)
                beyond[:, rows] = (values[rows] - seen).transpose(2, 0, 1)
                values[rows] = seen
            self._beyond = beyond
        return np.clip(values, 0.0, 1.0, out=values)


def bytes_for_view(picture: Picture) -> int:
    """The memory that a picture and its view take at their peak."""
    pixels = picture.size.height * picture.size.width
    own = picture.colour.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
    if picture.alpha is not None:
        return own + _BYTES_WITH_ALPHA * pixels
    if picture.bits > 8 or space_of(picture.profile, grey=picture.is_grey) is not None:
        return own + _BYTES_OF_FLOATS * pixels
    return own + (3 * pixels if picture.is_grey else 0)


def quantised_to_8_bits(values: Pixels | Float32) -> Pixels:
    """uint8 of what a network sees."""
    return np.asarray(
        values if values.dtype == np.uint8 else samples_from_unit(np.asarray(values, np.float32), 8), np.uint8
    )


def srgb_in_8_bits(picture: Picture) -> Pixels:
    """uint8 (H, W, 3) of an opaque picture in sRGB, whatever it was."""
    return quantised_to_8_bits(View(picture).values)


def _in_strips(rows: Iterator[Float32]) -> Iterator[Float32]:
    """The same rows, few enough at a time for what is computed of them to stay small."""
    for block in rows:
        for top in range(0, len(block), _ROWS_AT_A_TIME):
            yield block[top : top + _ROWS_AT_A_TIME]
