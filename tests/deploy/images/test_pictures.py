"""Any kind of picture in, the same kind out."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.errors import ImageError
from deploy.images.pictures import picture_from_pixels, pixels_from_picture

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


def test_arrays_and_images_are_the_same_pixels() -> None:
    assert pixels_from_picture(PIXELS) is PIXELS
    np.testing.assert_array_equal(pixels_from_picture(Image.fromarray(PIXELS)), PIXELS)
    grey = Image.fromarray(PIXELS[:, :, 0])
    np.testing.assert_array_equal(pixels_from_picture(grey), np.repeat(PIXELS[:, :, :1], 3, axis=2))
    opaque = Image.fromarray(PIXELS).convert("RGBA")
    np.testing.assert_array_equal(pixels_from_picture(opaque), PIXELS)


def test_the_result_is_of_the_kind_that_came() -> None:
    assert picture_from_pixels(PIXELS, PIXELS) is PIXELS
    made = picture_from_pixels(PIXELS, Image.new("L", (3, 3)))
    assert isinstance(made, Image.Image) and made.size == (7, 5)


@pytest.mark.parametrize(
    ("picture", "told"),
    [
        ("photo.png", r"must be a PIL image or a uint8 array \(H, W, 3\), found str"),
        (PIXELS.astype(np.float32), r"must be uint8 .* found float32 \(5, 7, 3\)"),
        (PIXELS[:, 0, 0], r"found uint8 \(5,\)"),
        (PIXELS[:, :, :2], r"found uint8 \(5, 7, 2\)"),
        (PIXELS[:0], r"found uint8 \(0, 7, 3\)"),
        (Image.new("RGBA", (3, 3), (1, 2, 3, 128)), r"transparent pixels"),
        (Image.new("RGB", (0, 3)), r"0x3 pixels has nothing to enlarge"),
    ],
)
def test_other_things_are_refused(picture: Any, told: str) -> None:
    with pytest.raises(ImageError, match=told):
        pixels_from_picture(picture)
