"""Profiles of sizes: checked when made, turned into shapes, and what lies outside is named."""

import pytest

from engines.contract import TensorSpec
from engines.errors import EngineError
from engines.plans.profiles import Profile

PROFILE = Profile(axes={"batch": (1, 1, 1), "height": (16, 64, 128)})


def test_text_is_sorted_and_short() -> None:
    assert PROFILE.text == "batch 1, height 16..64..128"
    assert not PROFILE.is_fixed
    assert Profile(axes={"batch": (2, 2, 2)}).is_fixed


def test_shapes_of_an_input() -> None:
    spec = TensorSpec("x", "float32", ("batch", 3, "height", 8))
    assert PROFILE.shapes(spec) == ((1, 3, 16, 8), (1, 3, 64, 8), (1, 3, 128, 8))


def test_an_axis_without_sizes() -> None:
    with pytest.raises(
        EngineError, match=r"says nothing of the axis width of x float32\[width\]; it has batch, height"
    ):
        PROFILE.shapes(TensorSpec("x", "float32", ("width",)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 2, 8), r"cannot have h 4\.\.2\.\.8: sizes are 1 or more"),
        ((1, 9, 8), r"cannot have h 1\.\.9\.\.8"),
        ((0, 1, 1), r"cannot have h from 0"),
    ],
)
def test_impossible_sizes(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Profile(axes={"h": sizes})


def test_what_lies_outside_is_named() -> None:
    assert PROFILE.excess({"batch": 1, "height": 128, "other": 9}) == ""
    assert PROFILE.excess({"batch": 2, "height": 200}) == "batch 2 (built for 1), height 200 (built for 16..64..128)"
