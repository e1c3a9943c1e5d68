"""Resizing in 8 bits against Pillow itself, whole and in windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deploy.images.resize_8_bits import Pixels, resize_region_8_bits

SIDES = st.integers(1, 40)
RESULTS = st.integers(40, 200)


def by_pillow(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    image = Image.fromarray(np.moveaxis(pixels, 0, -1).copy())
    return np.moveaxis(np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC)), -1, 0)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, new_height=RESULTS, new_width=RESULTS, seed=st.integers(0, 99), data=st.data())
def test_every_level_is_pillows(
    height: int, width: int, new_height: int, new_width: int, seed: int, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    # Black and white overshoot, levels between do not.
    pixels = generator.choice(np.array([0, 255, 128], np.uint8), (3, height, width))
    if seed % 2:
        pixels = generator.integers(0, 256, (3, height, width), np.uint8)
    size = (new_height, new_width)
    expected = by_pillow(pixels, size)
    whole = resize_region_8_bits(pixels, size, (0, new_height), (0, new_width))
    np.testing.assert_array_equal(whole, expected)
    top, left = data.draw(st.integers(0, new_height - 1)), data.draw(st.integers(0, new_width - 1))
    bottom = data.draw(st.integers(top + 1, new_height))
    right = data.draw(st.integers(left + 1, new_width))
    part = resize_region_8_bits(pixels, size, (top, bottom), (left, right))
    np.testing.assert_array_equal(part, expected[:, top:bottom, left:right])


def test_a_region_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rows \[0, 9\) are not within 0 to 8"):
        resize_region_8_bits(np.zeros((3, 4, 4), np.uint8), (8, 8), (0, 9), (0, 8))
