"""What a caller hands over as a picture, as 8-bit RGB pixels, and results in the caller's kind."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.errors import ImageError
from deploy.images.files import GREY_MODES, opaque_in_8_bits
from deploy.images.metadata import losses
from deploy.images.profiles import srgb_from_image

Pixels = NDArray[np.uint8]
Picture = Image.Image | Pixels
Kind = TypeVar("Kind", Image.Image, Pixels, Picture)
"""What a caller hands over and gets back: PIL images for PIL images, arrays for arrays."""


def pixels_from_picture(picture: Any, notice: Callable[[str], None] = lambda _: None) -> Pixels:
    """uint8 (H, W, 3) in sRGB of a PIL image of any mode or of an array; transparency is refused, not dropped.

    An array is (H, W, 3), or (H, W) for a grey picture. `notice` is told what of an image is converted or lost.
    """
    if isinstance(picture, Image.Image):
        return _pixels_from_image(picture, notice)
    if not isinstance(picture, np.ndarray):
        raise ImageError(f"A picture must be a PIL image or a uint8 array (H, W, 3), found {type(picture).__name__}.")
    grey = picture.ndim == 2
    if picture.dtype != np.uint8 or not (grey or picture.shape[2:] == (3,)) or picture.size == 0:
        raise ImageError(
            f"A picture array must be uint8 of shape (height, width, 3) or (height, width), found {picture.dtype} "
            f"{picture.shape}; convert it, for instance with PIL.Image.fromarray(...).convert('RGB')."
        )
    return np.repeat(picture[:, :, None], 3, axis=2) if grey else picture


def picture_from_pixels(pixels: Pixels, like: Any) -> Any:
    """The pixels as a PIL image or as an array, as `like` is one, of one channel if `like` has one."""
    if isinstance(like, Image.Image):
        return Image.fromarray(pixels[:, :, 0] if like.mode in GREY_MODES else pixels)
    return np.ascontiguousarray(pixels[:, :, 0]) if like.ndim == 2 else pixels


def is_grey(pixels: Pixels) -> bool:
    """Whether the three channels are equal everywhere."""
    strips = np.array_split(pixels, -(-len(pixels) // 64))  # a coloured picture is told by its first rows
    return all((rows == rows[:, :, :1]).all() for rows in strips)


def _pixels_from_image(image: Image.Image, notice: Callable[[str], None]) -> Pixels:
    if min(image.size) < 1:
        raise ImageError(f"A picture of {image.size[0]}x{image.size[1]} pixels has nothing to enlarge.")
    bits = 16 if image.mode.startswith("I;16") or (image.mode == "I" and _highest(image) > 255) else 8
    colours = image.convert("L") if image.mode == "I" and bits == 8 else image  # 32 bits that hold eight
    opaque = opaque_in_8_bits(colours, image.info.get("transparency"))
    if opaque is None:
        raise ImageError(
            "The picture has transparent pixels, and transparency cannot be carried through yet; flatten it onto a "
            "background first."
        )
    converted, conversion = srgb_from_image(opaque, image.info.get("icc_profile"))
    changes = [*([conversion] if conversion else []), *losses(image, bits)]
    if changes:
        notice(f"the picture: {'; '.join(changes)}")
    return np.array(converted.convert("RGB"))


def _highest(image: Image.Image) -> int:
    return int(np.asarray(image).max())
