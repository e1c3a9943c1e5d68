"""What a result will not have is named, once each, and nothing that was never there."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from deploy.images.files import read_image, write_image

COLOUR = Image.fromarray(np.random.default_rng(3).integers(0, 256, (6, 6, 3), np.uint8))
DEEP = Image.fromarray(np.full((6, 6), 4660, np.uint16))


def exif(**tags: Any) -> Image.Exif:
    block = Image.Exif()
    for name, value in tags.items():
        block[{"make": 0x010F, "orientation": 0x0112}[name]] = value
    return block


@pytest.mark.parametrize(
    ("name", "image", "options", "told"),
    [
        ("a.png", COLOUR, {}, ()),
        ("a.jpg", COLOUR, {}, ()),
        ("a.webp", COLOUR, {}, ()),
        ("a.jpg", COLOUR, {"exif": exif(orientation=6)}, ()),  # applied, and 72 DPI are Pillow's invention
        ("a.jpg", COLOUR, {"exif": exif(make="Me")}, ("its EXIF is not kept",)),
        ("a.png", DEEP, {"dpi": (300, 300)}, ("16 bits per channel become 8", "its 300 DPI are not kept")),
        (
            "a.jpg",
            COLOUR,
            {"exif": exif(make="Me"), "xmp": b"<x/>", "dpi": (300, 150), "comment": "hello"},
            ("its EXIF, XMP, comment and 300x150 DPI are not kept",),
        ),
        ("a.webp", COLOUR, {"xmp": b"<x/>", "exif": exif(make="Me")}, ("its EXIF and XMP are not kept",)),
        ("a.jpg", COLOUR, {"exif": b"Exif\x00\x00II*\x00\xff\xff\xff\xff"}, ()),  # damaged: nothing to lose
    ],
)
def test_what_is_lost_is_named(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any], told: tuple[str, ...]
) -> None:
    image.save(tmp_path / name, **options)
    assert read_image(tmp_path / name).changes == told


def test_iptc_and_the_xmp_of_a_png(tmp_path: Path) -> None:
    write_image(np.asarray(COLOUR), tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    segment = b"Photoshop 3.0\x00" + b"8BIM\x04\x04\x00\x00" + struct.pack(">I", 4) + b"IPTC"
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    assert read_image(tmp_path / "a.jpg").changes == ("its IPTC is not kept",)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<x/>")
    COLOUR.save(tmp_path / "a.png", pnginfo=text)
    assert read_image(tmp_path / "a.png").changes == ("its XMP is not kept",)


@pytest.mark.parametrize("dpi", [float("nan"), float("inf")])
def test_a_resolution_that_is_no_number_is_passed_over(dpi: float) -> None:
    from deploy.images.metadata import losses

    image = COLOUR.copy()
    image.info["dpi"] = (dpi, dpi)
    assert losses(image, 8) == []
