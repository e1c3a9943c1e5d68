"""Colours as an ICC profile describes them, turned into sRGB, which is what the networks were trained on.

By littlecms, which is a part of Pillow: relative colorimetric with black point compensation, so that colours within
sRGB are kept as they are, and those beyond it become the nearest at its border rather than pull all others with them.
Results have no profile of their own: without one, viewers take a picture as sRGB.
"""

import io

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_NAMES = {"L": "grey", "RGB": "RGB", "CMYK": "CMYK"}
_LONGEST_NAME = 60
_DAMAGE = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
"""All that Pillow raises at a profile that is none."""


def srgb_from_image(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """A picture of mode L, RGB or CMYK in sRGB, of mode L or RGB; and what was changed or could not be, in words."""
    if not profile:
        told = "CMYK without a profile becomes RGB" if image.mode == "CMYK" else None
        return image.convert("RGB") if image.mode == "CMYK" else image, told
    try:
        return _converted(image, profile)
    except _DAMAGE:
        plain = image.convert("RGB") if image.mode == "CMYK" else image
        return plain, "its colour profile cannot be read, and its colours are taken as sRGB"


def _converted(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = str(source.profile.xcolor_space).strip()
    mode = _SPACES.get(space)
    # A grey picture with a profile for RGB is common: its values stand for three equal channels.
    if mode != image.mode and not (mode == "RGB" and image.mode == "L"):
        plain = image.convert("RGB") if image.mode == "CMYK" else image
        return (
            plain,
            f"its colour profile is for {space}, not for {_NAMES[image.mode]}, and its colours are taken as sRGB",
        )
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # Without NOOPTIMIZE a grey curve is interpolated from few points: 7 of 255 levels off in the shadows.
        ImageCms.Flags.BLACKPOINTCOMPENSATION | (ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else 0),
    )
    told = f"colours are converted from {_name(source)} to sRGB"
    if image.mode == "L":
        levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None]).convert(mode)
        # The result is neutral up to rounding; green carries most of the light.
        table = np.asarray(_applied(transform, levels).getchannel("G"))[0]
        unchanged = np.abs(table.astype(int) - np.arange(256)).max() <= 1
        return (image, None) if unchanged else (image.point(table.tolist()), told)
    if mode == "RGB" and _is_srgb(transform):
        return image, None
    return _applied(transform, image), told


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    result = ImageCms.applyTransform(image, transform)
    assert result is not None  # None only where the image itself was to be changed
    return result


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether the transform moves no colour by more than a level: what a profile does tells more than its name."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    before = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    after = np.asarray(_applied(transform, Image.fromarray(before)))
    return int(np.abs(after.astype(int) - before).max()) <= 1


def _name(profile: ImageCms.ImageCmsProfile) -> str:
    """What the profile calls itself, fit to be printed."""
    text = "".join(character for character in profile.profile.profile_description or "" if character.isprintable())
    return text.strip()[:_LONGEST_NAME] or "its profile"
