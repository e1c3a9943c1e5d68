"""What a caller hands over as a picture, as 8-bit RGB pixels, and results in the caller's kind."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.errors import ImageError

Pixels = NDArray[np.uint8]
Picture = Image.Image | Pixels


def pixels_from_picture(picture: Any) -> Pixels:
    """uint8 (H, W, 3) of a PIL image of any mode or of such an array; transparency is refused, not dropped."""
    if isinstance(picture, Image.Image):
        return _pixels_from_image(picture)
    if not isinstance(picture, np.ndarray):
        raise ImageError(f"A picture must be a PIL image or a uint8 array (H, W, 3), found {type(picture).__name__}.")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise ImageError(
            f"A picture array must be uint8 of shape (height, width, 3), found {picture.dtype} {picture.shape}; "
            "convert it, for instance with PIL.Image.fromarray(...).convert('RGB')."
        )
    return picture


def picture_from_pixels(pixels: Pixels, like: Any) -> Any:
    """The pixels as a PIL image or as an array, as `like` is one."""
    return Image.fromarray(pixels) if isinstance(like, Image.Image) else pixels


def _pixels_from_image(image: Image.Image) -> Pixels:
    if min(image.size) < 1:
        raise ImageError(f"A picture of {image.size[0]}x{image.size[1]} pixels has nothing to enlarge.")
    if "A" in image.getbands() or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
        if (alpha != 255).any():
            raise ImageError(
                "The picture has transparent pixels, and transparency cannot be carried through yet; flatten it onto a "
                "background first."
            )
    return np.array(image.convert("RGB"))
