"""The held-out crops: by which rule they are taken, and that the packaged ones keep to it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.errors import MissingPackage, SizeError
from deploy.images.files import read_image
from deploy.packaged.places import EVALUATION_IMAGES
from training.held_out import (
    CRISP,
    SIDE,
    WALLPAPERS,
    chosen_crops,
    crisp_reduction,
    crispness,
    held_out_pictures,
    read_wallpaper,
)
from training.photographs import held_out_photographs

RNG = np.random.default_rng(0)


def natural(height: int, width: int) -> np.ndarray:  # type: ignore[type-arg]
    """A picture whose amplitudes fall as one over the frequency, as those of photographs do."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    spectrum = np.fft.fft2(RNG.normal(size=(height, width))) / np.maximum(frequency, 1 / max(height, width))
    plane = np.fft.ifft2(spectrum).real
    values = np.clip(128 + 40 * (plane - plane.mean()) / plane.std(), 0, 255)
    return np.repeat(np.rint(values).astype(np.uint8)[..., None], 3, axis=2)


def test_octaves_of_a_natural_picture_have_the_same_contrast_and_an_enlarged_one_is_soft() -> None:
    picture = natural(512, 640)
    assert crispness(picture) == pytest.approx(1.2, abs=0.1)  # octaves of the filter's overlap; bands would give 1
    soft = np.array(Image.fromarray(picture[:256, :320]).resize((640, 512), Image.Resampling.BICUBIC))
    assert crispness(soft) < 0.4
    assert crisp_reduction(picture)[0] == 1
    factor, reduced = crisp_reduction(soft)
    assert 1.6 <= factor <= 2.5 and crispness(reduced) >= CRISP  # it was enlarged by 2
    assert reduced.shape == (round(512 / factor), round(640 / factor), 3)


def test_what_never_gets_crisp_is_reduced_as_far_as_a_crop_allows() -> None:
    soft = np.array(Image.fromarray(natural(75, 100)).resize((400, 300), Image.Resampling.BICUBIC))
    factor, reduced = crisp_reduction(soft)
    assert factor == 2.0 and reduced.shape == (150, 200, 3)  # 2.5 would leave 120 rows
    with pytest.raises(SizeError, match="needs 128 pixels a side, found 400x100"):
        crisp_reduction(soft[:100])


def test_the_most_detailed_square_and_the_middle_one_of_those_with_some_are_taken() -> None:
    """Six squares in two rows, of noise as strong as their number; the weakest is below a quarter of the strongest."""
    strengths = np.array([[30, 12, 24], [4, 18, 9]])
    noise = RNG.choice([-1, 1], (256, 384)) * np.kron(strengths, np.ones((SIDE, SIDE)))
    picture = np.repeat((128 + noise).astype(np.uint8)[..., None], 3, axis=2)
    first, second = chosen_crops(picture)
    np.testing.assert_array_equal(first, picture[:128, :128])
    np.testing.assert_array_equal(second, picture[128:, 128:256])  # of 30, 24, 18, 12 and 9 the third is 18
    assert len(chosen_crops(picture[:128, :128])) == 1


def test_the_packaged_crops_of_the_wheels_photographs_follow_from_the_rule() -> None:
    from training.photographs import read_photograph

    for photograph in held_out_photographs():
        crops = chosen_crops(crisp_reduction(read_photograph(photograph))[1])
        for number, crop in enumerate(crops, 1):
            path = EVALUATION_IMAGES / f"{photograph.name}-crop{number}.png"
            np.testing.assert_array_equal(read_image(path).pixels, crop)


def test_wallpapers_of_any_size_and_format_are_read_and_the_rest_named(tmp_path: Path) -> None:
    for photograph in WALLPAPERS:
        Image.fromarray(natural(300, 260)).save(tmp_path / f"{photograph.file}.jpg")
    made = held_out_pictures(tmp_path)
    assert {path.name for path in EVALUATION_IMAGES.glob("*.png")} == made.keys()
    assert {crop.shape for crop in made.values()} == {(SIDE, SIDE, 3)}
    wine = next(photograph for photograph in WALLPAPERS if photograph.name == "wine")
    (tmp_path / "Wine.jpg").unlink()
    Image.fromarray(natural(1500, 800)).save(tmp_path / "Wine.png")
    assert read_wallpaper(wine, tmp_path).shape == (1024, 546, 3)
    (tmp_path / "Wine.png").unlink()
    with pytest.raises(
        MissingPackage, match=r"Wine is not in .*; install Debian's package lomiri-wallpapers-16\.04, or"
    ):
        held_out_pictures(tmp_path)
