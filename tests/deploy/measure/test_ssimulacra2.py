"""SSIMULACRA2 against the package of that name, live where it is installed and by recorded scores everywhere."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.errors import SizeError
from deploy.measure.ssimulacra2 import Pixels, ssimulacra2

SIZES = [(8, 8), (11, 13), (45, 61), (97, 128), (128, 128), (300, 260)]


def pair(height: int, width: int, flaw: str) -> tuple[Pixels, Pixels]:
    """(picture, original): bars and a ramp of colours, and the same blurred, with grain, or with other colours."""
    y, x = np.mgrid[:height, :width]
    red, green = 127 + 120 * np.sin(x * x / (2.0 * width)), 255 * y / height
    blue = np.where((x // 5 + y // 7) % 2, 200, 30)
    original = np.rint(np.stack([red, green, blue], axis=-1)).astype(np.uint8)
    made = {
        "blur": lambda: sum(np.roll(original, shift, 1) / 4.0 for shift in (-1, 0, 1, 2)),
        "grain": lambda: original + 15.0 * np.sin(1e4 * np.sin(np.arange(original.size))).reshape(original.shape),
        "colour": lambda: original * [1.0, 0.93, 1.05],
    }[flaw]()
    return np.clip(np.rint(made), 0, 255).astype(np.uint8), original


RECORDED = {
    (8, 8, "grain"): 94.381945,
    (45, 61, "blur"): 18.229971,
    (97, 128, "colour"): 70.005884,
    (128, 128, "blur"): 21.571157,
    (128, 128, "grain"): 70.421948,
    (300, 260, "grain"): 54.755758,
}
"""By the package ssimulacra2 0.3.0."""


@pytest.mark.parametrize(("height", "width", "flaw"), RECORDED)
def test_scores_are_those_of_the_package(height: int, width: int, flaw: str) -> None:
    assert ssimulacra2(*pair(height, width, flaw)) == pytest.approx(RECORDED[height, width, flaw], abs=5e-5)


@pytest.mark.parametrize("flaw", ["blur", "grain", "colour"])
@pytest.mark.parametrize("size", SIZES)
def test_scores_are_those_of_the_package_that_is_installed(size: tuple[int, int], flaw: str, tmp_path: Path) -> None:
    package = pytest.importorskip("ssimulacra2", reason="needs the package ssimulacra2, of the extra dev")
    picture, original = pair(*size, flaw)
    for name, pixels in (("picture", picture), ("original", original)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    expected = package.compute_ssimulacra2(tmp_path / "original.png", tmp_path / "picture.png")
    assert ssimulacra2(picture, original) == pytest.approx(expected, abs=5e-5)


def test_equal_pictures_score_100_and_worse_ones_less() -> None:
    picture, original = pair(64, 64, "grain")
    halfway = np.rint((picture.astype(float) + original) / 2).astype(np.uint8)
    assert ssimulacra2(original, original) == 100
    assert 100 > ssimulacra2(halfway, original) > ssimulacra2(picture, original)
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert ssimulacra2(grey, grey) == 100


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    small = np.zeros((7, 60, 3), np.uint8)
    with pytest.raises(SizeError, match="measuring SSIMULACRA2: the pictures are 60x7, it needs 8 pixels a side"):
        ssimulacra2(small, small)
    with pytest.raises(SizeError, match=r"measuring SSIMULACRA2: the pictures differ in shape, \(7, 60, 3\) and \(8"):
        ssimulacra2(small, np.zeros((8, 60, 3), np.uint8))
