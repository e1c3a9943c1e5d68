"""How far ranges move over the steps."""

import math

import numpy as np
import pytest

from calibration.errors import StatisticsError
from calibration.observe.statistics import Histogram, histogram_of
from calibration.observe.step_statistics import movement_of, report_movement


def steps_reaching(*largest: float) -> list[Histogram]:
    return [histogram_of(np.array([-value, value / 4], dtype=np.float32)) for value in largest]


def test_the_report_lists_the_farthest_first() -> None:
    report = report_movement(
        {"a": steps_reaching(1, 2), "b": steps_reaching(4, 1, 2), "c": steps_reaching(3, 3), "d": steps_reaching(2, 4)}
    )
    assert [(tensor.name, tensor.ratio) for tensor in report.tensors] == [("b", 4), ("a", 2), ("d", 2), ("c", 1)]
    assert report.tensors[0].largest == (4, 1, 2)
    assert (report.median_ratio, report.largest_ratio) == (2, 4)


def test_tensors_of_zeros() -> None:
    assert movement_of("never", steps_reaching(0, 0)).ratio == 1
    assert movement_of("sometimes", steps_reaching(0, 1)).ratio == math.inf


def test_nothing_recorded_is_refused() -> None:
    with pytest.raises(StatisticsError, match="'a' moves: no step was recorded"):
        movement_of("a", [])
    with pytest.raises(StatisticsError, match="no tensor was recorded"):
        report_movement({})
