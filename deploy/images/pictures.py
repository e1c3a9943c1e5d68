"""What a caller of the Python API hands over as a picture, as a `Picture`, and results in the caller's kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.errors import ImageError
from deploy.images.exif import exif_of
from deploy.images.formats.by_pillow import exif_argument, samples_of
from deploy.images.picture import HIGHEST, Metadata, Origin, Picture, Samples
from deploy.images.profiles import srgb_from_cmyk, usable_profile
from deploy.images.sizes import Size
from deploy.images.tags import TagError
from deploy.images.xmp import corrected as corrected_xmp

Pixels = NDArray[np.uint8]
AnyPicture = Image.Image | NDArray[Any]
Kind = TypeVar(
    "Kind",
    Image.Image,
    NDArray[np.uint8],
    NDArray[np.uint16],
    NDArray[np.float32],
    NDArray[np.float64],
    AnyPicture,
)
"""What a caller hands over and gets back: PIL images for PIL images, arrays for arrays of the same numbers."""

_EXIF_LABEL = b"Exif\0\0"
_TAKEN = "uint8, uint16, float32 or float64 array (H, W), (H, W, 3) or (H, W, 4)"


def picture_from_given(given: Any, notice: Callable[[str], None] = lambda _: None) -> Picture:
    """A PIL image of any mode, or an array (H, W), (H, W, 3) or, with alpha, (H, W, 4), as a picture.

    Arrays are sRGB: uint8 to 255, uint16 to 65535, floats to 1. `notice` is told what of an image is converted or lost.
    """
    if isinstance(given, Image.Image):
        return _picture_from_image(given, notice)
    if not isinstance(given, np.ndarray):
        raise ImageError(f"A picture must be a PIL image or a {_TAKEN}, found {type(given).__name__}.")
    samples = given.astype(np.float32) if given.dtype == np.float64 else given
    shaped = samples.ndim == 2 or (samples.ndim == 3 and samples.shape[2] in (3, 4))
    if samples.dtype not in HIGHEST or not shaped or samples.size == 0:
        raise ImageError(f"A picture array must be a {_TAKEN}, found {given.dtype} {given.shape}.")
    if samples.dtype == np.float32 and not np.isfinite(samples).all():
        raise ImageError("A picture array must hold numbers, found NaN or infinite ones.")
    alpha = np.ascontiguousarray(samples[:, :, 3]) if samples.ndim == 3 and samples.shape[2] == 4 else None
    colour = samples[:, :, :3] if alpha is not None else samples
    mode = ("L" if samples.ndim == 2 else "RGB") + ("" if alpha is None else "A")
    origin = Origin(format="array", mode=mode, bits=8 * samples.dtype.itemsize)
    return Picture(colour=colour, alpha=_if_not_opaque(alpha), origin=origin)


def given_from_samples(samples: Samples, given: Any, picture: Picture, profile: bytes | None) -> Any:
    """A result (H, W, C) as a PIL image or as an array, as `given` is one, with alpha if `given` has a channel of it.

    profile: of the result's colours, which a PIL image carries with what else `given` said of itself.
    """
    if picture.alpha is None and picture.origin.mode in ("LA", "RGBA"):
        opaque = np.full((*samples.shape[:2], 1), HIGHEST[samples.dtype], samples.dtype)
        samples = np.concatenate([samples, opaque], axis=2)
    plain = np.ascontiguousarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    if not isinstance(given, Image.Image):
        return plain.astype(given.dtype, copy=False)
    image = Image.fromarray(plain)
    image.info.update(_info(given, Size.of(samples), profile))
    return image


def is_grey(pixels: NDArray[Any]) -> bool:
    """Whether the three channels are equal everywhere."""
    strips = np.array_split(pixels, -(-len(pixels) // 64))  # a coloured picture is told by its first rows
    return all((rows == rows[:, :, :1]).all() for rows in strips)


def _if_not_opaque(alpha: Samples | None) -> Samples | None:
    return None if alpha is None or (alpha >= HIGHEST[alpha.dtype]).all() else alpha


def _picture_from_image(image: Image.Image, notice: Callable[[str], None]) -> Picture:
    if min(image.size) < 1:
        raise ImageError(f"A picture of {image.size[0]}x{image.size[1]} pixels has nothing to enlarge.")
    samples = _samples(image)
    stored = image.info.get("icc_profile") or None
    changes: list[str] = []
    profile: bytes | None = None
    alpha = None
    if image.mode == "CMYK":
        colour, change = srgb_from_cmyk(samples, stored)
        changes.append(change)
    else:
        count = 1 if samples.shape[2] < 3 else 3
        colour = samples[:, :, 0] if count == 1 else samples[:, :, :3]
        alpha = np.ascontiguousarray(samples[:, :, count]) if samples.shape[2] > count else None
        profile, problem = usable_profile(stored, grey=count == 1)
        changes += [problem] if problem else []
    if changes:
        notice(f"the picture: {'; '.join(changes)}")
    mode = ("L" if colour.ndim == 2 else "RGB") + ("" if alpha is None else "A")
    return Picture(
        colour=np.ascontiguousarray(colour),
        alpha=_if_not_opaque(alpha),
        profile=profile,
        metadata=Metadata(),
        origin=Origin(format="image", mode=mode, bits=8 * samples.dtype.itemsize),
        changes=tuple(changes),
    )


def _samples(image: Image.Image) -> Samples:
    """(H, W, C): 16 bits where the image has them."""
    if image.mode.startswith("I"):  # older Pillow calls 16 bits "I", newer "I;16"
        values = np.asarray(image)
        if image.mode.startswith("I;16") or values.max() > 255:
            grey: Samples = np.clip(values, 0, 65535).astype(np.uint16)[:, :, None]
            if (grey == image.info.get("transparency", -1)).any():
                raise ImageError(
                    "PIL has no images of 16 bits with transparency, which the result would have to be; hand over an "
                    "8-bit image, or the file to `idm-deploy infer`."
                )
            return grey
        return np.asarray(np.clip(values, 0, 255), np.uint8)[:, :, None]
    return np.asarray(samples_of(image))


def _info(image: Image.Image, size: Size, profile: bytes | None) -> dict[str, Any]:
    """What an image's file said of it, true of an image of `size`. It is as upright as it was."""
    kept: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if "dpi" in image.info:
        kept["dpi"] = image.info["dpi"]
    exif = image.info.get("exif")
    understood = exif_of(exif.removeprefix(_EXIF_LABEL)) if isinstance(exif, bytes) else None
    if understood is not None:
        try:
            kept["exif"] = exif_argument(understood.corrected(size, orientation=understood.orientation))
        except TagError:
            return kept
    if isinstance(image.info.get("xmp"), bytes):
        kept["xmp"] = corrected_xmp(image.info["xmp"], size, orientation=understood.orientation if understood else 1)
    return kept
