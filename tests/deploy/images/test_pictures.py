"""Any kind of picture in, the same kind out."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.errors import ImageError
from deploy.images.picture import Picture, Samples
from deploy.images.pictures import given_from_samples, picture_from_given
from tests.deploy.images.profiles import display_p3, grey_gamma

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = np.ascontiguousarray(PIXELS[:, :, 0])
FOUR = np.dstack([PIXELS, GREY])


def samples_of(picture: Picture) -> Samples:
    """As a network that changes nothing would give it back."""
    colour = picture.colour.reshape(*picture.colour.shape[:2], -1)
    return colour if picture.alpha is None else np.dstack([colour, picture.alpha])


@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        GREY,
        FOUR,
        np.dstack([PIXELS, np.full_like(GREY, 255)]),
        PIXELS.astype(np.uint16) * 257,
        FOUR.astype(np.uint16) * 257,
        RNG.random((4, 6), np.float32),
        RNG.random((4, 6, 4), np.float32) * 3 - 1,
        RNG.random((4, 6, 3), np.float32).astype(np.float64),
        Image.fromarray(PIXELS),
        Image.fromarray(GREY),
        Image.fromarray(FOUR),
        Image.fromarray(FOUR[:, :, 2:]),
        Image.fromarray(PIXELS).convert("RGBA"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
    ],
    ids=lambda given: f"{given.mode}" if isinstance(given, Image.Image) else f"{given.dtype}-{given.shape}",
)
def test_what_goes_in_and_straight_out_again_is_the_same(given: Any) -> None:
    picture = picture_from_given(given)
    made = given_from_samples(samples_of(picture), given, picture, picture.profile)
    assert type(made) is type(given) or isinstance(made, Image.Image)
    np.testing.assert_array_equal(np.asarray(made), np.asarray(given))
    if isinstance(given, Image.Image):
        assert made.mode == given.mode
    else:
        assert made.dtype == given.dtype


def test_other_modes_of_images_become_what_comes_closest() -> None:
    palette = Image.fromarray(GREY % 3, "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.info["transparency"] = 1
    cases = {
        "RGB": [Image.fromarray(PIXELS).convert("YCbCr"), Image.new("CMYK", (3, 3), (0, 255, 0, 0))],
        "L": [Image.fromarray(GREY > 99), Image.fromarray(GREY.astype(np.int32)), Image.fromarray(GREY).convert("F")],
        "I;16": [Image.fromarray(GREY.astype(np.int32) * 257)],
        "RGBA": [palette],
    }
    for mode, images in cases.items():
        for image in images:
            picture = picture_from_given(image)
            assert given_from_samples(samples_of(picture), image, picture, None).mode == mode
    picture = picture_from_given(palette)
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, np.where(GREY % 3 == 1, 0, 255))


def test_a_pil_image_keeps_what_its_file_said() -> None:
    given = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0100] = "Me", 6, 7
    given.info |= {"icc_profile": display_p3(), "dpi": (300, 300), "exif": exif.tobytes(), "xmp": b"<x/>"}
    picture = picture_from_given(given)
    made = given_from_samples(np.zeros((10, 14, 3), np.uint8), given, picture, picture.profile)
    assert made.info["icc_profile"] == display_p3() and made.info["dpi"] == (300, 300) and made.info["xmp"] == b"<x/>"
    found = Image.Exif()
    found.load(made.info["exif"])
    # As upright as it was: nobody turned the image that was handed over.
    assert (found[0x010F], found[0x0112], found[0x0100]) == ("Me", 6, 14)
    told: list[str] = []
    given.info["icc_profile"] = grey_gamma(1.8)
    assert picture_from_given(given, told.append).profile is None
    assert told == ["the picture: its colour profile is for GRAY, not for RGB, and its colours are taken as sRGB"]


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        ("photo.png", r"must be a PIL image or a uint8, .* \(H, W, 4\), found str"),
        (PIXELS.astype(np.int64), r"must be a uint8, .* found int64 \(5, 7, 3\)"),
        (PIXELS[:, 0, 0], r"found uint8 \(5,\)"),
        (PIXELS[:, :, :2], r"found uint8 \(5, 7, 2\)"),
        (PIXELS[:0], r"found uint8 \(0, 7, 3\)"),
        (np.full((3, 3), np.nan, np.float32), r"must hold numbers, found NaN"),
        (Image.new("RGB", (0, 3)), r"0x3 pixels has nothing to enlarge"),
    ],
)
def test_other_things_are_refused(picture: Any, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        picture_from_given(picture)


def test_sixteen_bits_with_a_transparent_value_have_no_image_to_come_back_as() -> None:
    deep = Image.fromarray(np.full((4, 4), 513, np.uint16))
    deep.info["transparency"] = 513
    with pytest.raises(ImageError, match="PIL has no images of 16 bits with transparency"):
        picture_from_given(deep)
    deep.info["transparency"] = 514  # which no pixel has
    assert picture_from_given(deep).alpha is None
