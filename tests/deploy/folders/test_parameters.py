"""Values of a wrong kind in Python: a sentence that names the parameter, for every parameter there is."""

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import Upscaler, enlarge
from deploy.errors import DeployError, ParameterError
from tests.deploy.folders.pictures import enlarged, make_pictures

PIXELS = np.zeros((6, 9, 3), np.uint8)


def parameters(function: Any) -> list[str]:
    return [name for name in signature(function).parameters if name not in ("self", "image")]


@pytest.mark.parametrize("name", parameters(enlarge))
def test_enlarge_names_the_parameter_of_a_wrong_kind(name: str, tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path, "a.png")
    given = {"pictures": tmp_path / "a.png", "out": tmp_path / "out", "upscaler": upscaler}
    ways = {"size", "long_edge", "fit", "megapixels"}
    with pytest.raises(DeployError, match=rf"{name}|{name.replace('_', ' ')}"):
        enlarge(**given | ({} if name in ways else {"scale": 2}) | {name: object()})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", parameters(Upscaler.upscale))
def test_upscale_names_the_parameter_of_a_wrong_kind(name: str, upscaler: Upscaler) -> None:
    ways = {"size", "long_edge"}
    with pytest.raises(DeployError, match=rf"{name}|{name.replace('_', ' ')}"):
        upscaler.upscale(PIXELS, **({} if name in ways else {"scale": 2}) | {name: object()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tile": "64"}, r"^`tile` must be a whole number, found '64' \(str\)\.$"),
        (
            {"crop": (0, 0, 4.5, 4)},
            r"^`crop` must be \(left, top, width, height\) in whole pixels, found \(0, 0, 4\.5, 4\)",
        ),
        ({"strip_metadata": "no"}, r"`strip_metadata` must be True or False, found 'no'"),
        ({"batch": "auto"}, r"`batch` must be a whole number of pictures, or None for as many as are fastest"),
        ({"include": ["*.png", 5]}, r"`include` must be a pattern such as '\*\.jpg', or a list of them"),
        ({"exclude": None}, r"`exclude` must be a pattern"),
        ({"choices": {"preset": "best"}}, r"`choices` must be a deploy\.sampling\.choices\.Choices"),
        ({"name": "x" * 99 + "y", "force": "x" * 99}, r"found 'x{59}\.\. \(str\)\.$"),
    ],
)
def test_a_wrong_kind_is_told_with_what_was_expected(options: dict[str, Any], told: str, upscaler: Upscaler) -> None:
    with pytest.raises(ParameterError, match=told):
        enlarge("a.png", "out", scale=2, upscaler=upscaler, **options)
    with pytest.raises(TypeError, match=r"`out` must be the path of a folder, found None"):
        enlarge("a.png", None, scale=2)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"`bundle` must be a Bundle, such as .* found 'ckpt\.bundle' \(str\)"):
        Upscaler("ckpt.bundle")  # type: ignore[arg-type]


def test_one_pattern_needs_no_list(tmp_path: Path, upscaler: Upscaler) -> None:
    make_pictures(tmp_path / "in", "a.png", "b.png", "a.jpg")
    found = enlarged(upscaler, tmp_path / "in", tmp_path / "out", include="*.png", exclude="b*")
    assert list(found) == ["a_x2.png"]
