"""Colours with a profile of their own arrive as sRGB; what cannot be understood is said and taken as sRGB."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from deploy.images.files import read_image
from deploy.images.picture import Origin, Picture
from deploy.images.profiles import space_of, usable_profile
from deploy.images.sizes import Size
from deploy.images.view import View
from tests.deploy.images.profiles import (
    cmyk_of_grey_inks,
    display_p3,
    grey_gamma,
    linear_from_srgb,
    rgb_by_table,
    srgb_from_linear,
    wide_gamut,
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


SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
CURVES = [
    (0, (2.2,)),
    (1, (2.0, 0.9, 0.1)),
    (2, (2.0, 0.9, 0.074679, 0.05)),  # 0.95 from the square, 0.05 more
    (3, SRGB_CURVE),
    (4, (*SRGB_CURVE, 0.0, 0.0)),
]


@pytest.mark.parametrize(("kind", "values"), CURVES)
def test_every_kind_of_curve_leads_to_light_and_back_also_beyond_the_border(
    kind: int, values: tuple[float, ...]
) -> None:
    space = space_of(wide_gamut(kind, values), grey=False)
    assert space is not None and space.returns
    colours = np.random.default_rng(kind).random((500, 3))
    srgb = space.srgb_from(colours)
    assert srgb.min() < 0  # wider than sRGB
    # Where a curve is flat, its way back is steep: those that begin above zero stay out of it.
    found = space.from_srgb(srgb)
    clear = (colours > 0.02).all(axis=1)
    np.testing.assert_allclose(found[clear], colours[clear], atol=2e-6)
    np.testing.assert_allclose(space.srgb_from(np.ones((1, 3))), 1.0, atol=1e-5)  # white is white


@pytest.mark.parametrize(("kind", "values"), [CURVES[0], CURVES[3]])
def test_profiles_say_the_same_as_littlecms(kind: int, values: tuple[float, ...]) -> None:
    profile = wide_gamut(kind, values)
    pixels = np.random.default_rng(0).integers(60, 190, (40, 40, 3), np.uint8)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), "RGB", "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )  # fmt: skip
    by_littlecms = np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform)).astype(float)
    space = space_of(profile, grey=False)
    assert space is not None
    ours = 255 * np.clip(space.srgb_from(pixels / 255.0), 0, 1)
    assert np.abs(by_littlecms - pixels).max() > 10
    np.testing.assert_allclose(ours, by_littlecms, atol=1.0)  # its rounding, and its interpolation


def test_sixteen_bits_of_a_wide_space_come_back(tmp_path: Path) -> None:
    del tmp_path
    for profile in (display_p3(), wide_gamut(*CURVES[0]), wide_gamut(*CURVES[3])):
        colour = np.random.default_rng(1).integers(2000, 65536, (60, 50, 3), np.uint16)
        view = View(Picture(colour=colour, profile=profile, origin=Origin(format="png", mode="RGB", bits=16)))
        assert view.values.dtype == np.float32 and view.values.min() >= 0 and view.values.max() <= 1
        (made,) = view.samples(iter([view.values]), Size(60, 50), 16)
        # float32 between network and file, of which a dark channel beside a bright one feels most.
        assert np.abs(made.astype(int) - colour.astype(int)).max() <= 2


def test_a_profile_of_tables_is_interpolated_and_comes_back_where_it_can(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 200).astype(np.uint16)
    colour = np.stack([ramp, ramp[::-1], ramp], axis=-1)[None]
    origin = Origin(format="png", mode="RGB", bits=16)
    for both_ways in (True, False):
        profile, problem = usable_profile(rgb_by_table(both_ways=both_ways), grey=False)
        assert problem is None
        view = View(Picture(colour=colour, profile=profile, origin=origin))
        # Red is the lightness, L* = 100 red, as Y = ((L* + 16) / 116)^3 above 8.
        lightness = 100.0 * (ramp / 65535.0)
        light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
        np.testing.assert_allclose(view.values[0, :, 1], srgb_from_linear(light), atol=1.5 / 255)
        assert np.unique(view.values[0, :, 1]).size > 190  # no steps of eight bits
        assert view.profile == (profile if both_ways else None)
        (made,) = view.samples(iter([view.values]), Size(1, 200), 16)
        if both_ways:
            assert view.changes == ()
            np.testing.assert_allclose(made[0, :, 0].astype(float), ramp, atol=2 * 257)
        else:
            assert view.changes == ("colours are converted from Scanner to sRGB",)
    Image.fromarray((colour >> 8).astype(np.uint8)).save(tmp_path / "a.png", icc_profile=profile)
    assert read_image(tmp_path / "a.png").changes == ("colours are converted from Scanner to sRGB",)
