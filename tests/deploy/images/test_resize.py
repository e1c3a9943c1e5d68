"""Resizing against Pillow's own, region by region, and the two aids built on it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deploy.errors import SizeError
from deploy.images.resize import back_project, data_consistency, downscale, resize, resize_region, upscale


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def _pillow(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 90), st.integers(1, 300), st.integers(1, 90))
def test_equals_pillow_on_floats(height: int, width: int, new_height: int, new_width: int) -> None:
    image = _noise(height, width)
    # Pillow's weights are float64 and ours float32: a few rounding errors of values up to about 4.
    assert np.abs(resize(image, (new_height, new_width)) - _pillow(image, (new_height, new_width))).max() < 5e-6


@pytest.mark.parametrize("size", [(128, 96), (8, 12), (31, 97), (32, 24)])
def test_rounded_result_is_within_one_level_of_pillow_on_8_bit_colour(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(70, 186, (32, 24, 3), dtype=np.uint8)
    ours = np.rint(np.clip(resize(np.moveaxis(pixels, -1, 0).astype(np.float32), size), 0, 255))
    # Pillow also rounds (and would clip, which these values avoid) to 8 bits between the two axes.
    assert np.abs(np.moveaxis(ours, 0, -1) - _pillow(pixels, size).astype(np.int16)).max() <= 1


def test_hand_computed_weights_of_doubling() -> None:
    # Output 4 of 16 lies at 4.5/2 = 2.25; the pixels' centres 0.5, 1.5, .. are 1.75, 0.75, 0.25, 1.25 away.
    weights = resize(np.eye(8, dtype=np.float32), (16, 8))[4]
    assert weights == pytest.approx([-0.0234375, 0.2265625, 0.8671875, -0.0703125, 0, 0, 0, 0], abs=1e-7)


def test_leading_axes_are_independent_and_the_same_size_changes_nothing() -> None:
    image = _noise(2, 3, 20, 30)
    whole = resize(image, (45, 17))
    assert whole.shape == (2, 3, 45, 17) and whole.dtype == np.float32
    np.testing.assert_allclose(whole[1, 2], resize(image[1, 2], (45, 17)), atol=1e-6)
    np.testing.assert_array_equal(resize(image, (20, 30)), image)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_region_equals_the_cut_from_the_whole(data: st.DataObject) -> None:
    size = (data.draw(st.integers(1, 260)), data.draw(st.integers(1, 260)))
    image = _noise(data.draw(st.integers(1, 150)), data.draw(st.integers(1, 150)))
    spans = []
    for length in size:
        start = data.draw(st.integers(0, length - 1))
        spans.append((start, data.draw(st.integers(start + 1, length))))
    rows, columns = spans
    part = resize_region(image, size, rows, columns)
    np.testing.assert_allclose(part, resize(image, size)[slice(*rows), slice(*columns)], atol=5e-6)


def test_a_region_reads_only_the_input_it_depends_on() -> None:
    image = np.full((400, 400), np.nan, np.float32)
    image[150:250, 150:250] = 1.0
    part = resize_region(image, (100, 100), (45, 55), (45, 55))
    np.testing.assert_allclose(part, 1.0, rtol=1e-6)


def test_a_memory_mapped_picture_gives_the_same(tmp_path) -> None:  # type: ignore[no-untyped-def]
    image = _noise(3, 300, 200)
    stored = np.memmap(tmp_path / "picture", np.float32, "w+", shape=image.shape)
    stored[:] = image
    np.testing.assert_array_equal(downscale(stored, (75, 50)), downscale(image, (75, 50)))


def test_consistency_follows_its_formula_in_place() -> None:
    x0, lr = _noise(2, 3, 64, 48), _noise(2, 3, 16, 12)
    expected = x0 + 0.7 * upscale(lr - downscale(x0, (16, 12)), (64, 48))
    result = data_consistency(x0, lr, 0.7)
    assert result is x0
    np.testing.assert_allclose(x0, expected, atol=1e-5)


def test_consistency_of_a_tall_picture_works_in_strips() -> None:
    x0, lr = _noise(600, 8), _noise(75, 4)
    expected = x0 + upscale(lr - downscale(x0, (75, 4)), (600, 8))
    np.testing.assert_allclose(data_consistency(x0, lr, 1.0), expected, atol=1e-5)


def test_consistency_refuses_what_it_cannot_change_in_place() -> None:
    with pytest.raises(TypeError, match="in place on float32, found float64"):
        data_consistency(np.zeros((8, 8)), np.zeros((4, 4), np.float32), 1.0)  # type: ignore[arg-type]


def test_each_back_projection_brings_the_picture_nearer_to_its_input() -> None:
    lr = _noise(3, 16, 20)
    errors = [
        float(np.abs(lr - downscale(back_project(lr, (64, 80), iterations=n), (16, 20))).mean()) for n in range(6)
    ]
    assert all(later < 0.7 * earlier for earlier, later in itertools.pairwise(errors))


def test_a_constant_stays_constant_to_the_border() -> None:
    np.testing.assert_allclose(back_project(np.full((5, 7), 0.25, np.float32), (33, 40)), 0.25, atol=1e-6)


def test_wrong_directions_and_empty_sizes_are_refused() -> None:
    image = np.zeros((8, 8), np.float32)
    with pytest.raises(SizeError, match="enlarging a 8x8 picture: 16x4 is smaller"):
        upscale(image, (16, 4))
    with pytest.raises(SizeError, match="reducing a 8x8 picture: 4x9 is larger"):
        downscale(image, (4, 9))
    with pytest.raises(SizeError, match="at least one row and one column"):
        resize(image, (0, 4))
    with pytest.raises(SizeError, match=r"rows \[3, 3\) are not within 0 to 16"):
        resize_region(image, (16, 16), (3, 3), (0, 16))
    with pytest.raises(SizeError, match=r"columns \[0, 17\) are not within 0 to 16"):
        resize_region(image, (16, 16), (0, 16), (0, 17))
