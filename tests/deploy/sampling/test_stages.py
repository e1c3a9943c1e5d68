"""Sizes on the way to a picture, by hand arithmetic."""

import pytest

from deploy.errors import PlanError, SizeError
from deploy.images.sizes import Size
from deploy.sampling.stages import AUTO, ONCE, Stages, stages_from

LR = Size(10, 20)


def times(scale: float) -> Size:
    return Size(*(round(scale * side) for side in LR))


@pytest.mark.parametrize(
    ("said", "scale", "expected"),
    [
        (ONCE, 12, [12]),
        ((12,), 12, [12]),
        ((4, 3), 12, [4, 12]),
        ((4,), 12, [4]),  # a filter does the rest
        ((4, 2), 12, [4, 8]),
        ((3.46, 3.47), 12, [3.46, 12]),  # 12.006 is meant to be 12
        ((2.6,), 2.55, [2.55]),  # 26 rows, as 2.55 times makes
    ],
)
def test_what_is_listed_is_done(said: str | tuple[float, ...], scale: float, expected: list[float]) -> None:
    assert stages_from(said, [2]).sizes(LR, times(scale)) == tuple(times(each) for each in expected)


@pytest.mark.parametrize(
    ("preset", "scale", "expected"),
    [
        (None, 12, [12]),
        ([4], 12, [4]),
        ([4], 4, [4]),
        ([4], 1.5, [1.5]),
        ([4], 1, [1]),
        ([4, 4], 8, [4, 8]),
        ([4, 4], 12, [4, 12]),
        ([4, 4], 20, [4, 16]),
    ],
)
def test_a_preset_s_list_gives_limits(preset: list[float] | None, scale: float, expected: list[float]) -> None:
    for said in (None, AUTO):
        assert stages_from(said, preset).sizes(LR, times(scale)) == tuple(times(each) for each in expected)


def test_sides_that_grow_by_different_factors_change_alike() -> None:
    """10 to 160 is 16 times, 20 to 80 is 4: a stage of 4 is half the way, so 4 and 2 times."""
    assert Stages(magnifications=(4,)).sizes(LR, Size(160, 80)) == (Size(40, 40),)


def test_lists_that_cannot_be_are_refused() -> None:
    with pytest.raises(SizeError, match=r"`stages` 4,4 enlarge 16 times, the picture is to grow 12 times, from 20x10"):
        Stages(magnifications=(4, 4)).sizes(LR, times(12))
    with pytest.raises(PlanError, match=r"A stage enlarges at least 1 time, found 0\.5"):
        stages_from((4, 0.5), None)
    wrong: list[object] = ["4,3", (), ("4",), (True,), (float("nan"),), (2,) * 9]
    for said in wrong:
        with pytest.raises(PlanError, match="`stages` must be auto, once or"):
            stages_from(said, None)  # type: ignore[arg-type]
