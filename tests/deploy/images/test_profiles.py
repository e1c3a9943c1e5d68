"""Colours with a profile of their own arrive as sRGB; what cannot be understood is said and taken as sRGB."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from deploy.images.files import read_image
from tests.deploy.images.profiles import (
    cmyk_of_grey_inks,
    display_p3,
    grey_gamma,
    linear_from_srgb,
    srgb_from_linear,
)

COLOURS = np.uint8([[[128, 128, 128], [200, 120, 60], [60, 120, 200], [90, 150, 100], [255, 255, 255], [0, 0, 0]]])
# From P3's primaries to sRGB's, both with white D65: the product of the two published matrices to and from XYZ.
SRGB_FROM_P3 = np.array(
    [[1.2249402, -0.2249402, 0.0], [-0.0420570, 1.0420570, 0.0], [-0.0196376, -0.0786361, 1.0982736]]
)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(path: Path, image: Image.Image, profile: bytes) -> Path:
    image.save(path, icc_profile=profile, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_display_p3_becomes_srgb(tmp_path: Path, name: str) -> None:
    read = read_image(saved(tmp_path / name, Image.fromarray(COLOURS), display_p3()))
    expected = 255 * srgb_from_linear(linear_from_srgb(COLOURS / 255) @ SRGB_FROM_P3.T)
    assert np.abs(expected - COLOURS).max() > 10  # it does matter
    # Half a level of rounding, and half for the profile's numbers, which have four decimals.
    np.testing.assert_allclose(read.pixels, expected, atol=1.0)
    assert read.changes == ("colours are converted from Display P3 to sRGB",)
    with_alpha = Image.fromarray(COLOURS).convert("RGBA")
    np.testing.assert_array_equal(read_image(saved(tmp_path / name, with_alpha, display_p3())).pixels, read.pixels)


def test_what_srgb_cannot_show_ends_at_its_border(tmp_path: Path) -> None:
    vivid = np.uint8([[[255, 0, 0], [0, 255, 0], [255, 0, 255]]])
    read = read_image(saved(tmp_path / "a.png", Image.fromarray(vivid), display_p3()))
    # The matrix gives (1.22, -0.04, -0.02), (-0.22, 1.04, -0.08) and (1.22, -0.04, 1.08): all beyond.
    np.testing.assert_array_equal(read.pixels, vivid)


def test_srgb_is_left_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (16, 16, 3), np.uint8)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels[:, :, 0])):
        read = read_image(saved(tmp_path / "a.png", image, SRGB))
        np.testing.assert_array_equal(read.pixels, np.asarray(image.convert("RGB")))
        assert read.changes == ()


def test_grey_with_its_own_curve_and_grey_with_a_profile_of_colours(tmp_path: Path) -> None:
    ramp = np.arange(0, 256, 5, dtype=np.uint8)[None]
    read = read_image(saved(tmp_path / "a.png", Image.fromarray(ramp), grey_gamma(1.0)))
    np.testing.assert_allclose(read.pixels[:, :, 0], 255 * srgb_from_linear(ramp / 255), atol=1.0)
    assert read.is_grey and (read.pixels == read.pixels[:, :, :1]).all()
    assert read.changes == ("colours are converted from Grey gamma to sRGB",)  # without the bell in its name
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    both = read_image(saved(tmp_path / "deep.png", deep, grey_gamma(1.0)))
    np.testing.assert_array_equal(both.pixels, read.pixels)
    assert both.changes == (read.changes[0], "16 bits per channel become 8")
    # P3's curve is sRGB's, and neutral stays neutral.
    same = read_image(saved(tmp_path / "b.png", Image.fromarray(ramp), display_p3()))
    np.testing.assert_allclose(same.pixels[:, :, 0].astype(int), ramp, atol=1)


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :, 0] = 255
    image = Image.fromarray(inks, "CMYK")
    read = read_image(saved(tmp_path / "a.jpg", image, cmyk_of_grey_inks()))
    # L* = 50 is Y = ((50 + 16) / 116)^3; two levels for JPEG, which was asked for quality 75.
    np.testing.assert_allclose(read.pixels[8, 8], 255 * srgb_from_linear(np.array(((50 + 16) / 116) ** 3)), atol=3)
    assert read.changes == ("colours are converted from Inks to sRGB",)
    image.save(tmp_path / "b.jpg")
    plain = read_image(tmp_path / "b.jpg")
    np.testing.assert_allclose(plain.pixels[8, 8].astype(int), [0, 255, 255], atol=3)
    assert plain.changes == ("CMYK without a profile becomes RGB",)


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (b"this is no profile", "its colour profile cannot be read, and its colours are taken as sRGB"),
        (display_p3()[:200], "its colour profile cannot be read, and its colours are taken as sRGB"),
        (grey_gamma(1.8), "its colour profile is for GRAY, not for RGB, and its colours are taken as sRGB"),
        (cmyk_of_grey_inks(), "its colour profile is for CMYK, not for RGB, and its colours are taken as sRGB"),
    ],
)
def test_a_profile_that_cannot_be_used_is_told_and_passed_over(tmp_path: Path, profile: bytes, told: str) -> None:
    read = read_image(saved(tmp_path / "a.png", Image.fromarray(COLOURS), profile))
    np.testing.assert_array_equal(read.pixels, COLOURS)
    assert read.changes == (told,)
    flat = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    if profile != cmyk_of_grey_inks():
        cmyk = read_image(saved(tmp_path / "a.jpg", flat, profile))
        assert cmyk.changes == (told.replace("not for RGB", "not for CMYK"),) and cmyk.pixels.min() > 250
