"""How large the result is: from a scale, a size or the like, with every refusal said before any work.

Sizes here are a user's: (width, height).
"""

import math

from deploy.errors import SizeError

PixelSize = tuple[int, int]

MAX_PIXELS = 1_000_000_000
"""Largest result by default, in pixels: 31 622 x 31 622. A guard against a slip of the finger, no limit of the tool."""


def output_size(
    lr: PixelSize,
    *,
    scale: float | None = None,
    size: PixelSize | None = None,
    long_edge: int | None = None,
    fit: PixelSize | None = None,
    megapixels: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> PixelSize:
    """(width, height) of the result for an input of `lr` pixels; exactly one of the five ways to say it is given.

    A scale gives round(scale * side) on both sides. A long edge, the largest size within the box `fit`, and a number of
    megapixels keep the proportions in the same way; `size` is taken as it is.
    """
    check_request(scale=scale, size=size, long_edge=long_edge, fit=fit, megapixels=megapixels)
    if scale is not None:
        wanted = _scaled(lr, scale, max_pixels)
    elif long_edge is not None:
        wanted = _with_long_edge(lr, long_edge)
    elif fit is not None:
        wanted = _fitted(lr, fit)
    elif megapixels is not None:
        wanted = _with_megapixels(lr, megapixels)
    else:
        assert size is not None
        wanted = size[0], size[1]
    return _within_limits(lr, wanted, max_pixels)


def check_request(
    *,
    scale: float | None = None,
    size: PixelSize | None = None,
    long_edge: int | None = None,
    fit: PixelSize | None = None,
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


def label_of_size(
    *,
    scale: float | None = None,
    size: PixelSize | None = None,
    long_edge: int | None = None,
    fit: PixelSize | None = None,
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


def _scaled(lr: PixelSize, scale: float, max_pixels: int) -> PixelSize:
    if scale * scale * lr[0] * lr[1] > 4.0 * max_pixels:  # also keeps floats out of reach of overflow
        raise SizeError(
            f"The scale {scale:g} makes {_about(scale * lr[0])}x{_about(scale * lr[1])} pixels of {lr[0]}x{lr[1]}, the "
            f"limit is {max_pixels} pixels. Choose a smaller scale, or raise the limit with `max_pixels`."
        )
    return round(scale * lr[0]), round(scale * lr[1])


def _about(side: float) -> str:
    """A side as people write it, in powers of ten only where the digits would fill the line."""
    return f"{side:.0f}" if side < 1e9 else f"{side:.4g}"


def _with_long_edge(lr: PixelSize, long_edge: int) -> PixelSize:
    factor = long_edge / max(lr)
    return (long_edge, round(factor * lr[1])) if lr[0] >= lr[1] else (round(factor * lr[0]), long_edge)


def _fitted(lr: PixelSize, box: PixelSize) -> PixelSize:
    """The largest size of the same proportions in the box: one side is the box's."""
    if box[0] * lr[1] <= box[1] * lr[0]:
        return box[0], min(box[1], max(1, round(box[0] * lr[1] / lr[0])))
    return min(box[0], max(1, round(box[1] * lr[0] / lr[1]))), box[1]


def _with_megapixels(lr: PixelSize, megapixels: float) -> PixelSize:
    factor = math.sqrt(megapixels * 1e6 / (lr[0] * lr[1]))
    return max(1, round(factor * lr[0])), max(1, round(factor * lr[1]))


def _within_limits(lr: PixelSize, wanted: PixelSize, max_pixels: int) -> PixelSize:
    if wanted[0] < lr[0] or wanted[1] < lr[1]:
        raise SizeError(
            f"The output {wanted[0]}x{wanted[1]} is smaller than the input {lr[0]}x{lr[1]} on a side; these models "
            "enlarge, ask for at least the input's size."
        )
    if wanted[0] * wanted[1] > max_pixels:
        raise SizeError(
            f"The output {wanted[0]}x{wanted[1]} has {wanted[0] * wanted[1]} pixels, the limit is {max_pixels}. Choose "
            "a smaller size, or raise the limit with `max_pixels`."
        )
    return wanted
