"""What a picture holds beside 8-bit colours, and what of it does not reach the result, in words."""

import struct
from collections.abc import Sequence

from PIL import Image

_ORIENTATION, _X_RESOLUTION = 0x0112, 0x011A
# All that Pillow raises at a damaged EXIF block.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error)


def losses(image: Image.Image, bits: int) -> list[str]:
    """One clause for depth, one for all metadata that enlarging leaves behind; none where there is nothing to lose."""
    clauses = [f"{bits} bits per channel become 8"] if bits > 8 else []
    tags = _exif_tags(image)
    kept_nowhere = [
        *(["EXIF"] if tags - {_ORIENTATION} else []),
        *(["XMP"] if any(image.info.get(key) for key in ("xmp", "XML:com.adobe.xmp")) else []),
        *(["IPTC"] if image.info.get("photoshop") else []),
        *(["comment"] if image.info.get("comment") or image.info.get("Comment") else []),
        *_resolution(image, tags),
    ]
    if kept_nowhere:
        several = len(kept_nowhere) > 1 or kept_nowhere[0].endswith("DPI")
        clauses.append(f"its {_listed(kept_nowhere)} {'are' if several else 'is'} not kept")
    return clauses


def _exif_tags(image: Image.Image) -> set[int]:
    try:
        return set(image.getexif())
    except _DAMAGE:
        return set()  # damaged: no reader could have used it


def _resolution(image: Image.Image, tags: set[int]) -> list[str]:
    """The resolution in words, if the file states one: Pillow invents 72 for a JPEG with EXIF and no resolution."""
    dpi = image.info.get("dpi")
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return []
    if image.format in ("JPEG", "MPO") and image.info.get("jfif_unit") not in (1, 2) and _X_RESOLUTION not in tags:
        return []
    try:
        across, down = (round(float(value)) for value in dpi)
    except (ValueError, OverflowError, TypeError, ZeroDivisionError):
        return []
    return [f"{across} DPI" if across == down else f"{across}x{down} DPI"]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
