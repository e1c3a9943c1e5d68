"""Transparent pictures laid over one colour, as light: for formats without transparency, and for looking at."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ImageError
from deploy.images.picture import HIGHEST, Picture, Samples, samples_from_unit, unit_from_samples
from deploy.images.profiles import ColourSpace, kind_of, space_of
from deploy.images.transfer import linear_from_srgb, srgb_from_linear
from engines.arrays import Float32

Colour = tuple[int, int, int]
"""Red, green and blue of sRGB, from 0 to 255."""

NAMED: dict[str, Colour] = {"white": (255, 255, 255), "black": (0, 0, 0)}
_ROWS_AT_A_TIME = 64


def colour_from_text(text: str) -> Colour:
    """White, black, or red, green and blue as #rrggbb."""
    if isinstance(text, str) and text.lower() in NAMED:
        return NAMED[text.lower()]
    if not isinstance(text, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ImageError(f"`background` is {', '.join(NAMED)} or a colour such as #ffe0c0, found {text!r}.")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def on_background(picture: Picture, background: Colour) -> Picture:
    """The picture, opaque, in its own depth and profile; one channel of grey stays one on a background of grey.

    Opaque pixels keep their values; the others are mixed with the background in the light of sRGB.
    """
    if picture.alpha is None:
        return picture
    space = space_of(picture.profile, grey=picture.is_grey)
    is_grey = picture.is_grey and len(set(background)) == 1
    keeps_space = space is None or (space.returns and is_grey == picture.is_grey)
    light = light_of(background)
    shape = (*picture.size, *(() if is_grey else (3,)))
    colour = np.empty(shape, picture.colour.dtype)
    for top in range(0, picture.size.height, _ROWS_AT_A_TIME):
        rows = slice(top, top + _ROWS_AT_A_TIME)
        mixed = _mixed(picture, rows, light, space)
        if space is not None and keeps_space:
            mixed = space.from_srgb(mixed)
        made = samples_from_unit(mixed.mean(axis=2) if is_grey else mixed, picture.bits)
        if keeps_space:
            opaque = picture.alpha[rows] >= HIGHEST[picture.alpha.dtype]
            made[opaque] = _like(picture.colour[rows], made)[opaque]
        colour[rows] = made
    change = () if keeps_space or space is None else (f"colours are converted from {space.name} to sRGB",)
    fits = keeps_space and (is_grey or picture.profile is None or kind_of(picture.profile) != "GRAY")
    profile = picture.profile if fits else None
    return replace(picture, colour=colour, alpha=None, profile=profile, changes=(*picture.changes, *change))


def light_of(colour: Colour) -> Float32:
    """Of each channel, from 0 to 1."""
    return linear_from_srgb(np.array(colour, np.float32) / np.float32(255)).astype(np.float32)


def laid_over(srgb: NDArray[np.floating], share: NDArray[np.floating], light: Float32) -> NDArray[np.floating]:
    """Encoded colours (H, W, 3), of which a share (H, W, 1) is seen, over the light of a background."""
    return srgb_from_linear(linear_from_srgb(srgb) * share + light * (1 - share))


def _mixed(picture: Picture, rows: slice, light: Float32, space: ColourSpace | None) -> NDArray[np.floating]:
    """Encoded sRGB (rows, W, 3) of some rows over the light of a background."""
    assert picture.alpha is not None
    own: NDArray[np.floating] = unit_from_samples(picture.colour[rows])
    own = np.repeat(own[:, :, None], 3, axis=2) if own.ndim == 2 else own
    srgb = own if space is None else space.srgb_from(own)
    return laid_over(srgb, unit_from_samples(picture.alpha[rows])[:, :, None], light)


def _like(colour: Samples, made: Samples) -> Samples:
    """The colours with as many channels as what was made."""
    return np.repeat(colour[:, :, None], 3, axis=2) if colour.ndim < made.ndim else colour
