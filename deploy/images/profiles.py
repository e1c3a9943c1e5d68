"""Colours as an ICC profile describes them, turned into sRGB, which the networks were trained on, and back.

A profile of three primaries and curves (Display P3, Adobe RGB, a screen's) is arithmetic, done here in float64: nothing
is rounded to 8 bits, and colours beyond sRGB keep values beyond 0 and 1. What needs tables goes through littlecms, a
part of Pillow, which works in 8 bits: its answer on a grid of colours is interpolated, so that no steps appear.
Relative colorimetric with black point compensation throughout.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from deploy.images.picture import Samples
from deploy.images.transfer import linear_from_srgb, srgb_from_linear

Floats = NDArray[np.floating]

_LONGEST_NAME = 60
_DAMAGE = (ImageCms.PyCMSError, OSError, ValueError, TypeError, struct.error, IndexError)
"""All that Pillow and the arithmetic here raise at a profile that is none."""
_UNREADABLE = "its colour profile cannot be read, and its colours are taken as sRGB"
_GRID = 33
_SRGB_TO_PCS = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
"""sRGB's light to XYZ under D50, as profiles count (Bradford-adapted, Lindbloom)."""


class ColourSpace(Protocol):
    """What values of a file mean. Values are floats in the last axis, three or one (grey), 0 to 1 and beyond."""

    @property
    def name(self) -> str:
        """What the profile calls itself, fit to be printed."""

    @property
    def returns(self) -> bool:
        """Whether colours can be turned back."""

    def srgb_from(self, values: Floats) -> Floats:
        """sRGB, encoded."""

    def from_srgb(self, values: Floats) -> Floats:
        """The space's own values of encoded sRGB."""


def space_of(profile: bytes | None, *, grey: bool) -> ColourSpace | None:
    """What a profile that `usable_profile` let through means; None: sRGB, or no different in effect."""
    if profile is None:
        return None
    space = _space(profile)
    return None if _is_srgb(space, grey=grey) else space


def usable_profile(profile: bytes | None, *, grey: bool) -> tuple[bytes | None, str | None]:
    """The profile of a picture of one or three channels, if it is one for such; else None and why, in words."""
    if not profile:
        return None, None
    try:
        kind = kind_of(profile)
        if kind not in ("RGB", "GRAY") or (kind == "GRAY" and not grey):
            wrong = f"its colour profile is for {kind}, not for {'grey' if grey else 'RGB'}"
            return None, f"{wrong}, and its colours are taken as sRGB"
        _space(profile)
    except _DAMAGE:
        return None, _UNREADABLE
    return profile, None


def srgb_from_cmyk(pixels: Samples, profile: bytes | None) -> tuple[Samples, str]:
    """uint8 (H, W, 3) of uint8 (H, W, 4), through the profile if it is one for CMYK; and what was done, in words."""
    image = Image.fromarray(np.ascontiguousarray(pixels), "CMYK")
    plain = "CMYK without a profile becomes RGB"
    if profile:
        try:
            kind = kind_of(profile)
            if kind == "CMYK":
                source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                converted = _transformed(source, image, "CMYK")
                return np.asarray(converted), f"colours are converted from {_name(source)} to sRGB"
            plain = f"its colour profile is for {kind}, not for CMYK, and its colours are taken as sRGB"
        except _DAMAGE:
            plain = _UNREADABLE
    return np.asarray(image.convert("RGB")), plain


@lru_cache(maxsize=16)
def _space(profile: bytes) -> ColourSpace:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))  # littlecms checks what the tags below leave out
    name, tags = _name(source), _tags(profile)
    if b"kTRC" in tags:
        return _Grey(name=name, curve=_curve(tags[b"kTRC"]))
    colorants = [tags.get(tag) for tag in (b"rXYZ", b"gXYZ", b"bXYZ")]
    curves = [tags.get(tag) for tag in (b"rTRC", b"gTRC", b"bTRC")]
    if all(colorants) and all(curves) and not {b"A2B0", b"A2B1"} & set(tags):
        matrix = np.stack([_xyz(data) for data in colorants if data], axis=1)
        # White must become white exactly, whatever four decimals the colorants were rounded to.
        matrix *= (_SRGB_TO_PCS.sum(axis=1) / matrix.sum(axis=1))[:, None]
        to_srgb = np.linalg.inv(_SRGB_TO_PCS) @ matrix
        return _Primaries(name=name, curves=tuple(_curve(data) for data in curves if data), to_srgb=to_srgb)
    return _Grid.of(source, name)


@dataclass(frozen=True)
class _Curve:
    """From values to light and back, both growing, going on beyond 0 and 1."""

    light_from: Callable[[Floats], Floats]
    values_from: Callable[[Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class _Primaries:
    """Three curves and a matrix."""

    name: str
    curves: tuple[_Curve, ...]
    to_srgb: NDArray[np.float64]
    returns: bool = True

    def srgb_from(self, values: Floats) -> Floats:
        light = [curve.light_from(values[..., index].astype(np.float64)) for index, curve in enumerate(self.curves)]
        return srgb_from_linear(np.stack(light, axis=-1) @ self.to_srgb.T)

    def from_srgb(self, values: Floats) -> Floats:
        light = linear_from_srgb(values.astype(np.float64)) @ np.linalg.inv(self.to_srgb).T
        return np.stack([curve.values_from(light[..., index]) for index, curve in enumerate(self.curves)], axis=-1)


@dataclass(frozen=True, kw_only=True)
class _Grey:
    """One curve, for one channel or three equal ones."""

    name: str
    curve: _Curve
    returns: bool = True

    def srgb_from(self, values: Floats) -> Floats:
        return srgb_from_linear(self.curve.light_from(values.astype(np.float64)))

    def from_srgb(self, values: Floats) -> Floats:
        return self.curve.values_from(linear_from_srgb(values.astype(np.float64)))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """What littlecms says of a grid of colours, both ways; between them it is interpolated."""

    name: str
    to_srgb: NDArray[np.float64]
    back: NDArray[np.float64] | None

    @classmethod
    def of(cls, source: Any, name: str) -> "_Grid":
        steps = np.rint(np.linspace(0, 255, _GRID)).astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
        image = Image.fromarray(colours)
        to_srgb = np.asarray(_transformed(source, image, "RGB"))
        try:
            back = np.asarray(_transformed(ImageCms.createProfile("sRGB"), image, "RGB", target=source))
        except _DAMAGE:
            back = None  # a scanner's profile, say, goes one way only
        shape = (_GRID, _GRID, _GRID, 3)
        return cls(
            name=name,
            to_srgb=to_srgb.reshape(shape) / 255.0,
            back=None if back is None else back.reshape(shape) / 255.0,
        )

    @property
    def returns(self) -> bool:
        return self.back is not None

    def srgb_from(self, values: Floats) -> Floats:
        return _interpolated(self.to_srgb, values)

    def from_srgb(self, values: Floats) -> Floats:
        assert self.back is not None  # asked for by `returns`
        return _interpolated(self.back, values)


def _interpolated(grid: NDArray[np.float64], values: Floats) -> Floats:
    """Linear between the eight colours of the grid around each."""
    positions = np.rint(np.linspace(0, 255, _GRID)) / 255.0  # not quite even
    clipped = np.clip(values.astype(np.float64), 0.0, 1.0)
    low = np.clip(np.searchsorted(positions, clipped, side="right") - 1, 0, _GRID - 2)
    share = (clipped - positions[low]) / (positions[low + 1] - positions[low])
    result = np.zeros_like(clipped)
    for corner in range(8):
        up = np.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        index = low + up
        weight = np.where(up, share, 1.0 - share).prod(axis=-1)
        result += weight[..., None] * grid[index[..., 0], index[..., 1], index[..., 2]]
    return result


def _is_srgb(space: ColourSpace, *, grey: bool) -> bool:
    """Whether it moves no colour by more than a level of 255: what a profile does tells more than its name."""
    levels = np.linspace(0.0, 1.0, 16)
    if grey or isinstance(space, _Grey):
        before = np.repeat(np.linspace(0.0, 1.0, 256)[:, None], 3, axis=1)
    else:
        before = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3)
    return bool(np.abs(np.clip(space.srgb_from(before), 0, 1) - before).max() <= 1.0 / 255.0)


def kind_of(profile: bytes) -> str:
    """What colours a profile is for: RGB, GRAY, CMYK, ..; an error of Pillow's where it is none."""
    return str(ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space).strip()


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile (ICC.1:2022, 7.3) as bytes."""
    (count,) = struct.unpack_from(">I", profile, 128)
    if count > 1000:
        raise ValueError(f"the profile claims {count} tags")
    tags = {}
    for index in range(count):
        name, place, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if place + size > len(profile):
            raise ValueError("a tag lies beyond the end of the profile")
        tags[name] = profile[place : place + size]
    return tags


def _xyz(data: bytes) -> NDArray[np.float64]:
    return np.frombuffer(data[8:20], ">i4").astype(np.float64) / 65536.0


def _curve(data: bytes) -> _Curve:
    """A curve of type `curv` or `para` (10.6 and 10.18)."""
    kind = data[:4]
    if kind == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count <= 1:
            gamma = 1.0 if count == 0 else struct.unpack_from(">H", data, 12)[0] / 256.0
            return _parametric(0, [gamma])
        table = np.frombuffer(data[12 : 12 + 2 * count], ">u2").astype(np.float64) / 65535.0
        if len(table) < count or (np.diff(table) < 0).any() or table[0] == table[-1]:
            raise ValueError("a curve of the profile is cut short or falls")
        return _tabulated(table)
    if kind == b"para":
        (number,) = struct.unpack_from(">H", data, 8)
        count = (1, 3, 4, 5, 7)[number]
        return _parametric(number, [value / 65536.0 for value in struct.unpack_from(f">{count}i", data, 12)])
    raise ValueError(f"the profile has a curve of the unknown type {kind!r}")


def _tabulated(table: NDArray[np.float64]) -> _Curve:
    """Beyond 1 it goes on as straight as its last step."""
    places = np.linspace(0.0, 1.0, len(table))
    # Flat parts have no way back; a slope of a millionth gives them one.
    growing = table + np.linspace(0.0, 1e-9, len(table))
    slope = max((growing[-1] - growing[-2]) * (len(table) - 1), 1e-6)

    def light_from(values: Floats) -> Floats:
        size = np.abs(values)
        light = np.interp(size, places, growing) + np.maximum(size - 1.0, 0.0) * slope
        return np.asarray(np.copysign(light, values), np.float64)

    def values_from(light: Floats) -> Floats:
        size = np.abs(light)
        values = np.interp(size, growing, places) + np.maximum(size - growing[-1], 0.0) / slope
        return np.asarray(np.copysign(values, light), np.float64)

    return _Curve(light_from, values_from)


def _parametric(number: int, values: list[float]) -> _Curve:
    """Y = (aX + b)^g + e from X = d on, cX + f below: all five types of the standard are of this form."""
    g, a, b, c, d, e, f = _parameters(number, values)
    if g <= 0 or a <= 0:
        raise ValueError("a curve of the profile falls")
    start = max(a * d + b, 0.0) ** g + e

    def light_from(x: Floats) -> Floats:
        size = np.abs(x)
        light = np.where(size >= d, np.maximum(a * size + b, 0.0) ** g + e, c * size + f)
        return np.asarray(np.copysign(light, x), np.float64)

    def values_from(y: Floats) -> Floats:
        size = np.abs(y)
        power = (np.maximum(size - e, 0.0) ** (1.0 / g) - b) / a
        below = (size - f) / c if c > 0 else np.full_like(size, d)
        return np.asarray(np.copysign(np.maximum(np.where(size >= start, power, below), 0.0), y), np.float64)

    return _Curve(light_from, values_from)


def _parameters(number: int, values: list[float]) -> tuple[float, ...]:
    """g, a, b, c, d, e, f of the most general type, for each of the five."""
    g = values[0]
    if number == 0:
        return g, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    a, b = values[1], values[2]
    if number == 1:
        return g, a, b, 0.0, -b / a, 0.0, 0.0
    if number == 2:
        return g, a, b, 0.0, -b / a, values[3], values[3]
    if number == 3:
        return g, a, b, values[3], values[4], 0.0, 0.0
    return g, a, b, values[3], values[4], values[5], values[6]


def _transformed(source: Any, image: Image.Image, mode: str, target: Any = None) -> Image.Image:
    """An image of `mode` in the colours of `target`, sRGB by default, by littlecms."""
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB") if target is None else target,
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE,
    )
    result = ImageCms.applyTransform(image, transform)
    assert result is not None  # None only where the image itself was to be changed
    return result


def _name(profile: ImageCms.ImageCmsProfile) -> str:
    """What the profile calls itself, fit to be printed."""
    text = "".join(character for character in profile.profile.profile_description or "" if character.isprintable())
    return text.strip()[:_LONGEST_NAME] or "its profile"
