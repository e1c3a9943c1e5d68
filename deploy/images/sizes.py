"""Sizes in pixels, and how large a result is: from a scale, a size or the like, refused before any work."""

import math
from math import prod
from typing import Any, NamedTuple

from numpy.typing import NDArray

from deploy.errors import SizeError

UserSize = tuple[int, int]
"""(width, height), as users say and read sizes: at the command line, in `upscale` and `generate`, in reports."""


class Size(NamedTuple):
    """The size of a picture, a state or a window: (height, width), in the order of an array's axes."""

    height: int
    width: int

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> "Size":
        """Of a picture (height, width) or (height, width, channels)."""
        return cls(pixels.shape[0], pixels.shape[1])

    @classmethod
    def square(cls, side: int) -> "Size":
        """As high as wide."""
        return cls(side, side)

    @classmethod
    def from_user(cls, size: UserSize) -> "Size":
        """What a user calls (width, height)."""
        return cls(size[1], size[0])

    @property
    def for_user(self) -> UserSize:
        """(width, height)."""
        return self.width, self.height

    def __str__(self) -> str:
        """As people write it: width x height."""
        return f"{self.width}x{self.height}"


MAX_PIXELS = 1_000_000_000
"""Largest result by default, in pixels: 31 622 x 31 622. A guard against a slip of the finger, no limit of the tool."""


def output_size(
    lr: Size,
    *,
    scale: float | None = None,
    size: UserSize | None = None,
    long_edge: int | None = None,
    fit: UserSize | None = None,
    megapixels: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Size:
    """The size of the result for an input of `lr` pixels; exactly one of the five ways to say it is given.

    A scale gives round(scale * side) on both sides. A long edge, the largest size within the box `fit`, and a number of
    megapixels keep the proportions in the same way; `size` is taken as it is.
    """
    check_request(scale=scale, size=size, long_edge=long_edge, fit=fit, megapixels=megapixels)
    if scale is not None:
        wanted = _scaled(lr, scale, max_pixels)
    elif long_edge is not None:
        wanted = _with_long_edge(lr, long_edge)
    elif fit is not None:
        wanted = _fitted(lr, Size.from_user(fit))
    elif megapixels is not None:
        wanted = _with_megapixels(lr, megapixels)
    else:
        assert size is not None
        wanted = Size.from_user(size)
    return _within_limits(lr, wanted, max_pixels)


def check_request(
    *,
    scale: float | None = None,
    size: UserSize | None = None,
    long_edge: int | None = None,
    fit: UserSize | None = None,
    megapixels: float | None = None,
) -> None:
    """Exactly one is given, and it makes sense by itself, whatever the picture."""
    ways = {"scale": scale, "size": size, "long edge": long_edge, "fit": fit, "megapixels": megapixels}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given" if given else "none of them was given"
        raise SizeError(f"The output size needs exactly one of scale, size, long edge, fit and megapixels; {found}.")
    if scale is not None:
        _check_scale(scale)
    for name, box in (("output size", size), ("box to fit", fit)):
        if box is not None and not (len(box) == 2 and all(map(_is_side, box))):
            raise SizeError(f"The {name} must be (width, height) in whole pixels above 0, found {box!r}.")
    if long_edge is not None and not _is_side(long_edge):
        raise SizeError(f"The long edge must be a whole number of pixels, found {long_edge!r}.")
    if megapixels is not None and not (_is_number(megapixels) and 1e-6 <= megapixels <= 1e6):
        raise SizeError(f"The megapixels must be a number above 0, such as 12 or 0.5; found {megapixels!r}.")


def times_grown(before: Size, after: Size) -> float:
    """How many times the side grows that grows most, e.g. 4 from 10x20 to 40x60."""
    return max(high / low for low, high in zip(before, after, strict=True))


def label_of_size(
    *,
    scale: float | None = None,
    size: UserSize | None = None,
    long_edge: int | None = None,
    fit: UserSize | None = None,
    megapixels: float | None = None,
) -> str:
    """What is asked for, as it stands in names of files: x4, 1920x1080, long2048, fit1920x1080 or 12MP."""
    if scale is not None:
        return f"x{scale:g}"
    if size is not None:
        return f"{size[0]}x{size[1]}"
    if fit is not None:
        return f"fit{fit[0]}x{fit[1]}"
    return f"long{long_edge}" if long_edge is not None else f"{megapixels:g}MP"


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_scale(scale: float) -> None:
    if not _is_number(scale) or scale <= 0:
        raise SizeError(f"The scale must be a number of 1 or more, such as 4 or 2.5; found {scale!r}.")
    if scale < 1:
        raise SizeError(
            f"The scale {scale:g} would shrink the picture; these models enlarge, give a scale of 1 or more."
        )


def _scaled(lr: Size, scale: float, max_pixels: int) -> Size:
    if scale * scale * prod(lr) > 4.0 * max_pixels:  # also keeps floats out of reach of overflow
        raise SizeError(
            f"The scale {scale:g} makes {_about(scale * lr.width)}x{_about(scale * lr.height)} pixels of {lr}, the "
            f"limit is {max_pixels} pixels. Choose a smaller scale, or raise the limit with `max_pixels`."
        )
    return Size(*(round(scale * side) for side in lr))


def _about(side: float) -> str:
    """A side as people write it, in powers of ten only where the digits would fill the line."""
    return f"{side:.0f}" if side < 1e9 else f"{side:.4g}"


def _with_long_edge(lr: Size, long_edge: int) -> Size:
    longest = max(lr)
    factor = long_edge / longest
    return Size(*(long_edge if side == longest else round(factor * side) for side in lr))


def _fitted(lr: Size, box: Size) -> Size:
    """The largest size of the same proportions in the box: one side is the box's."""
    if box.width * lr.height <= box.height * lr.width:
        return Size(min(box.height, max(1, round(box.width * lr.height / lr.width))), box.width)
    return Size(box.height, min(box.width, max(1, round(box.height * lr.width / lr.height))))


def _with_megapixels(lr: Size, megapixels: float) -> Size:
    factor = math.sqrt(megapixels * 1e6 / prod(lr))
    return Size(*(max(1, round(factor * side)) for side in lr))


def _within_limits(lr: Size, wanted: Size, max_pixels: int) -> Size:
    if wanted.width < lr.width or wanted.height < lr.height:
        raise SizeError(
            f"The output {wanted} is smaller than the input {lr} on a side; these models "
            "enlarge, ask for at least the input's size."
        )
    if prod(wanted) > max_pixels:
        raise SizeError(
            f"The output {wanted} has {prod(wanted)} pixels, the limit is {max_pixels}. Choose "
            "a smaller size, or raise the limit with `max_pixels`."
        )
    return wanted
