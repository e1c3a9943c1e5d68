"""Which part of an original is kept, and the low-resolution picture made of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.errors import ImageError, SizeError
from deploy.images.files import read_image
from deploy.images.sizes import Size
from deploy.measure.evaluation.originals import low_resolution, original_from_pixels, read_originals
from deploy.measure.evaluation.photographs import photographs_of

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:  # type: ignore[type-arg]
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(folder: Path, name: str, height: int, width: int) -> None:
    Image.fromarray(picture(height, width)).save(folder / name)


@pytest.mark.parametrize(
    ("side", "scale", "low", "kept"),
    [
        (128, 4.0, 32, 128),
        (131, 4.0, 32, 128),
        (128, 12.0, 10, 120),
        (50, 2.5, 20, 50),
        (49, 2.5, 19, 48),  # 19 * 2.5 = 47.5, which rounds to 48
        (47, 2.5, 18, 45),
        (20, 1.0, 20, 20),
    ],
)
def test_each_side_is_cut_to_what_whole_lr_pixels_enlarge_to(side: int, scale: float, low: int, kept: int) -> None:
    original = original_from_pixels("a.png", picture(side, side), scale)
    assert original.lr.shape[:2] == (low, low)
    assert original.pixels.shape[:2] == (kept, kept)


def test_the_middle_is_kept() -> None:
    pixels = picture(31, 45)
    original = original_from_pixels("a.png", pixels, 4.0)
    np.testing.assert_array_equal(original.pixels, pixels[1:29, 0:44])  # 3 rows and 1 column too many
    assert original.size == Size(28, 44)
    assert original.whole == Size(31, 45)
    assert original_from_pixels("a.png", pixels, 1.0).whole is None
    cropped = original_from_pixels("a.png", pixels, 4.0, crop=20)
    np.testing.assert_array_equal(cropped.pixels, pixels[5:25, 12:32])


def test_the_lr_picture_is_that_of_pillow_to_one_level() -> None:
    """Pillow rounds after each axis and its weights to 22 bits, so that single levels differ by one."""
    pixels = picture(64, 48)
    expected = np.asarray(Image.fromarray(pixels).resize((12, 16), Image.Resampling.BICUBIC))
    difference = low_resolution(pixels, (16, 12)).astype(int) - expected
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.25


def test_originals_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.webp"):
        save(tmp_path, name, 16, 16)
    (tmp_path / "notes.md").write_text("not a picture")
    assert [one.name for one in read_originals(tmp_path, 1.0)] == ["a.jpg", "b.png", "c.webp"]
    assert [one.name for one in read_originals(tmp_path, 1.0, limit=2)] == ["a.jpg", "b.png"]
    for name in "defgh":
        save(tmp_path, f"{name}.png", 16, 16)
    assert [one.name for one in read_originals(tmp_path, 1.0, limit=3)] == ["a.jpg", "c.webp", "f.png"]


def test_what_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none is not a folder; name the folder"):
        read_originals(tmp_path / "none", 4.0)
    with pytest.raises(ImageError, match=r"holds no picture; expected files ending in \.png"):
        read_originals(tmp_path, 4.0)
    save(tmp_path, "a.png", 30, 50)
    with pytest.raises(ImageError, match=r"3 pictures were asked for, .* holds 1; ask for fewer"):
        read_originals(tmp_path, 4.0, limit=3)
    with pytest.raises(SizeError, match=r"a\.png is 50x30, too small to take 40x40 pixels of it"):
        read_originals(tmp_path, 4.0, crop=40)
    with pytest.raises(SizeError, match=r"a\.png leaves 10x10 pixels at scale 2; at least 11 a side"):
        read_originals(tmp_path, 2.0, crop=11)


def test_an_input_of_fixed_size_is_of_the_same_square_at_every_scale(tmp_path: Path) -> None:
    save(tmp_path, "a.png", 64, 90)
    (two,), (four,) = (read_originals(tmp_path, scale, lr_side=16) for scale in (2.0, 4.0))
    np.testing.assert_array_equal(two.lr, four.lr)
    assert two.lr.shape == (16, 16, 3) and two.pixels.shape == (32, 32, 3) and four.pixels.shape == (64, 64, 3)
    np.testing.assert_array_equal(four.pixels, read_image(tmp_path / "a.png").pixels[:, 13:77])
    assert two.whole == four.whole == Size.from_user((90, 64))
    with pytest.raises(
        SizeError, match=r"a\.png is 90x64, too small: an input of 16x16 at scale 8 needs originals of 128"
    ):
        read_originals(tmp_path, 8.0, lr_side=16)


def test_crops_by_name_and_copies_by_content_are_of_one_photograph() -> None:
    base = picture(6, 6)
    large = np.asarray(Image.fromarray(base).resize((96, 72), Image.Resampling.BICUBIC))
    darker = (large * 0.7).astype(np.uint8)
    smaller = np.asarray(Image.fromarray(large).resize((40, 30)))
    flat = np.full((20, 20, 3), 7, np.uint8)
    names = ["hill-crop1.png", "hill-crop2.png", "x.png", "darker.jpg", "flat.png", "flat2.png", "smaller.webp"]
    pictures = [picture(50, 50), picture(60, 40), large, darker, flat, flat, smaller]
    assert photographs_of(names, pictures) == ("hill", "hill", "x.png", "x.png", "flat.png", "flat2.png", "x.png")
    # A crop and a copy of it join all crops of that name.
    assert photographs_of(["a.png", "b-crop1.png", "b-crop2.png"], [large, picture(9, 9), darker]) == ("a.png",) * 3


@pytest.mark.parametrize("scale", [0.5, -4.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(SizeError, match="needs a scale of 1 or more"):
        read_originals(tmp_path, scale)


def test_numbers_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SizeError, match="The crop must be at least 1, found 0"):
        read_originals(tmp_path, 4.0, crop=0)
    with pytest.raises(SizeError, match="The limit must be at least 1, found -1"):
        read_originals(tmp_path, 4.0, limit=-1)
