"""Timestep ranges: every noise level lies in exactly one, and the plan they were made for gets its partition back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.choose.ranges import ONE_RANGE, TimestepRanges, ranges_from_steps
from calibration.errors import RangeError

LEVELS = st.lists(st.floats(0, 1), min_size=1, max_size=12, unique_by=lambda level: round(level, 6)).map(sorted)


def test_ranges_are_half_open() -> None:
    ranges = TimestepRanges((0.0, 0.25, 0.5, 1.0))
    assert len(ranges) == 3
    assert [ranges.index_of(level) for level in [0.0, 0.2, 0.25, 0.49, 0.5, 1.0]] == [0, 0, 1, 1, 2, 2]
    assert [ONE_RANGE.index_of(level) for level in [0.0, 0.7, 1.0]] == [0, 0, 0]


@given(LEVELS, st.booleans(), st.data())
def test_a_plan_gets_its_partition_back(levels: list[float], falling: bool, data: st.DataObject) -> None:
    inner = data.draw(st.sets(st.integers(1, len(levels) - 1))) if len(levels) > 1 else set()
    boundaries = [0, *sorted(inner), len(levels)]
    in_order = levels[::-1] if falling else levels
    ranges = ranges_from_steps(in_order, boundaries)
    by_partition = [sum(step >= boundary for boundary in boundaries[1:]) for step in range(len(levels))]
    expected = [len(ranges) - 1 - k for k in by_partition] if falling else by_partition
    assert [ranges.index_of(level) for level in in_order] == expected


@pytest.mark.parametrize("edges", [(), (0.0,), (0.1, 1.0), (0.0, 0.9), (0.0, 0.5, 0.5, 1.0), (0.0, 0.7, 0.3, 1.0)])
def test_gaps_and_overlaps_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(RangeError, match=r"edges rising from 0\.0 to 1\.0 were expected"):
        TimestepRanges(edges)


@pytest.mark.parametrize("level", [-0.1, 1.5, float("nan")])
def test_levels_outside_are_refused(level: float) -> None:
    with pytest.raises(RangeError, match="levels lie between 0 and 1"):
        ONE_RANGE.index_of(level)


def test_steps_that_make_no_ranges_are_refused() -> None:
    with pytest.raises(RangeError, match="strictly rise or fall were expected"):
        ranges_from_steps([0.1, 0.3, 0.2], [0, 3])
    with pytest.raises(RangeError, match="strictly rise or fall were expected"):
        ranges_from_steps([], [0])
    for boundaries in ([0, 1], [0, 2, 1, 3], [0, 1, 1, 3], [1, 3]):
        with pytest.raises(RangeError, match="boundaries rising from 0 to 3 were expected"):
            ranges_from_steps([0.1, 0.2, 0.3], boundaries)
