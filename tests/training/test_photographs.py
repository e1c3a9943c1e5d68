from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.errors import MissingPackage
from training import photographs
from training.photographs import (
    PHOTOGRAPHS,
    held_out_photographs,
    package_folder,
    read_photograph,
    reductions,
    training_photographs,
)


def test_chelsea_coffee_and_flower_are_never_trained_on() -> None:
    assert {photograph.name for photograph in held_out_photographs()} == {"chelsea", "coffee", "flower"}
    trained = {photograph.file for photograph in training_photographs()}
    assert not trained & {photograph.file for photograph in held_out_photographs()}


def test_every_photograph_has_a_licence_and_is_listed_once_in_order() -> None:
    names = [photograph.name for photograph in PHOTOGRAPHS]
    assert names == sorted(set(names))
    assert all(photograph.licence for photograph in PHOTOGRAPHS)


def test_every_photograph_is_inside_the_installed_packages() -> None:
    for photograph in PHOTOGRAPHS:
        with Image.open(package_folder(photograph.package) / photograph.file) as image:
            assert min(image.size) >= 300, photograph.name


def test_grey_photographs_become_three_equal_channels() -> None:
    brick = next(photograph for photograph in PHOTOGRAPHS if photograph.name == "brick")
    picture = read_photograph(brick)
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[..., 0], picture[..., 2])


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPackage, match=r"The photograph astronaut is not at .*--photographs"):
        read_photograph(PHOTOGRAPHS[0], tmp_path)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "find_spec", lambda _name: None)
    with pytest.raises(MissingPackage, match="pip install scikit-learn"):
        package_folder("sklearn")


def test_reductions_keep_the_mean_and_stop_at_the_smallest_side() -> None:
    picture = np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 64, 3))
    levels = reductions(picture, (1.0, 2.0, 4.0), 32)
    assert [level.shape for level in levels] == [(96, 64, 3), (48, 32, 3)]
    # A ramp's mean does not change; half a grey level is what rounding to 8 bits may move.
    assert abs(float(levels[1].mean()) - float(picture.mean())) < 0.5
