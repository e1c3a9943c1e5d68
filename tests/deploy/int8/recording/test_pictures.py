"""Which pictures calibration starts from, and which sets are told or refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from deploy.errors import ImageError, SizeError
from deploy.images.files import write_image
from deploy.int8.recording.pictures import calibration_pictures
from deploy.int8.settings import QuantizeSettings

SMALL = QuantizeSettings(scales=(2.0, 4.0), crop=16)


def test_scales_take_turns_and_pictures_are_cut(photographs: Path) -> None:
    told: list[str] = []
    pictures = calibration_pictures(photographs, SMALL, told.append)
    assert [one.scale for one in pictures] == [2.0, 4.0, 2.0, 4.0, 2.0]
    assert {one.original.pixels.shape for one in pictures} == {(16, 16, 3)}
    assert [one.original.lr.shape[0] for one in pictures] == [8, 4, 8, 4, 8]
    assert not told


def test_inputs_may_be_limited_to_the_size_of_training(photographs: Path) -> None:
    """A latent grows with the input: at 2x crops of 12 pixels are left of 16, at 4x all of them."""
    pictures = calibration_pictures(photographs, SMALL, lambda _: None, most_lr=6)
    assert [one.original.lr.shape[0] for one in pictures] == [6, 4, 6, 4, 6]
    assert [one.original.pixels.shape[0] for one in pictures] == [12, 16, 12, 16, 12]


def test_smaller_pictures_are_continued_by_their_mirror_image(tmp_path: Path) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    write_image(rough, tmp_path / "small.png")
    (picture,) = calibration_pictures(tmp_path, SMALL, lambda _: None)
    pixels = picture.original.pixels
    assert np.array_equal(pixels[:10, :12], rough)
    assert np.array_equal(pixels[10:, :12], rough[9:3:-1])


def test_what_cannot_be_read_is_named_and_left_out(photographs: Path, tmp_path: Path) -> None:
    for path in photographs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    told: list[str] = []
    assert len(calibration_pictures(tmp_path, SMALL, told.append)) == 5
    assert len(told) == 1 and "broken.png" in told[0]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no picture in .* can be read; expected files ending in"):
        calibration_pictures(tmp_path, SMALL, lambda _: None)
    with pytest.raises(ImageError, match=r"is not a folder; name one that holds pictures with --calib"):
        calibration_pictures(tmp_path / "none", SMALL, lambda _: None)


def test_pictures_of_one_colour_are_told_and_refused_when_strict(tmp_path: Path) -> None:
    for number in range(5):
        write_image(np.full((16, 16, 3), 40 * number, np.uint8), tmp_path / f"{number}.png")
    told: list[str] = []
    assert len(calibration_pictures(tmp_path, SMALL, told.append)) == 5
    assert len(told) == 1 and "all 5 pictures" in told[0]
    assert told[0].endswith("of anything: 0.png (16x16), 1.png (16x16), 2.png (16x16) and 2 more")
    strict = QuantizeSettings(scales=(2.0,), crop=16, strict=True)
    with pytest.raises(ImageError, match=r"of one colour, which is not representative.*0\.png \(16x16\).*--calib"):
        calibration_pictures(tmp_path, strict, lambda _: None)


def test_a_small_set_is_told(photographs: Path) -> None:
    told: list[str] = []
    few = QuantizeSettings(scales=(2.0,), crop=16, pictures=2)
    assert len(calibration_pictures(photographs, few, told.append)) == 2
    assert told == [f"warning: only 2 pictures of {photographs} are used; fewer than 4 are hardly representative"]
    strict = QuantizeSettings(scales=(2.0,), crop=16, pictures=1, strict=True)
    words = r"only 1 picture of .* is used; fewer than 4 are.*\. Raise --pictures, or name a folder of pictures"
    with pytest.raises(ImageError, match=words):
        calibration_pictures(photographs, strict, lambda _: None)


def beside(photographs: Path, folder: Path, added: dict[str, np.ndarray]) -> Path:
    """A folder with the five photographs and further pictures."""
    for path in photographs.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name, pixels in added.items():
        write_image(pixels, folder / name)
    return folder


def test_too_small_pictures_are_named_and_those_mostly_mirrored_refused_when_strict(
    photographs: Path, tmp_path: Path
) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    folder = beside(photographs, tmp_path, {f"low{n}.png": rough for n in range(3)} | {"tiny.png": rough[:7]})
    told: list[str] = []
    calibration_pictures(folder, SMALL, told.append)
    assert told == [
        "warning: tiny.png (12x7), low0.png (12x10), low1.png (12x10) and 1 more are smaller than what is cut out"
        " (--crop 16), and continued by mirroring"
    ]
    strict = QuantizeSettings(scales=(2.0,), crop=16, strict=True)
    with pytest.raises(ImageError, match=r"tiny\.png \(12x7\), low0\.png.* are smaller than what is cut out"):
        calibration_pictures(folder, strict, lambda _: None)
    (folder / "tiny.png").unlink()
    told.clear()
    calibration_pictures(folder, strict, told.append)  # more than half of each is its own
    assert len(told) == 1 and "low0.png (12x10), low1.png (12x10) and low2.png (12x10) are smaller" in told[0]


def test_one_picture_of_one_colour_among_others_is_named_and_refused_when_strict(
    photographs: Path, tmp_path: Path
) -> None:
    folder = beside(photographs, tmp_path, {"grey.png": np.full((20, 30, 3), 90, np.uint8)})
    told: list[str] = []
    assert len(calibration_pictures(folder, SMALL, told.append)) == 6
    words = "grey.png (30x20) is of one colour, which is not representative of anything"
    assert told == [f"warning: {words}, but calibrated on"]
    strict = QuantizeSettings(scales=(2.0,), crop=16, strict=True)
    with pytest.raises(ImageError, match=re.escape(f"calibrating: {words}")):
        calibration_pictures(folder, strict, lambda _: None)


def test_a_scale_that_leaves_nothing_is_refused(photographs: Path) -> None:
    with pytest.raises(SizeError, match=r"scale 30 leaves nothing of 16 pixels; raise --crop"):
        calibration_pictures(photographs, QuantizeSettings(scales=(30.0,), crop=16), lambda _: None)
