"""Many tensors over many steps: order, saving and resuming change nothing."""

import io
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.errors import StatisticsError
from calibration.observe.statistics import BINS, histogram_of
from calibration.observe.step_statistics import StepStatistics

STEPS = 3


def recordings() -> list[tuple[str, int, NDArray[np.float32]]]:
    rng = np.random.default_rng(0)
    return [
        (name, step, (10**step * rng.standard_normal(50)).astype(np.float32))
        for _ in range(2)
        for name in ("b", "a")
        for step in range(STEPS)
    ]


def observe(statistics: StepStatistics, calls: list[tuple[str, int, NDArray[np.float32]]]) -> StepStatistics:
    for name, step, values in calls:
        statistics.observe(name, step, values)
    return statistics


def saved(statistics: StepStatistics) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **statistics.to_arrays())
    return file.getvalue()


def test_order_merging_and_resuming_give_the_same_bytes() -> None:
    calls = recordings()
    whole = saved(observe(StepStatistics(STEPS), calls))

    shuffled = random.Random(1).sample(calls, len(calls))
    assert saved(observe(StepStatistics(STEPS), shuffled)) == whole

    merged = observe(StepStatistics(STEPS), calls[:5])
    merged.merge(observe(StepStatistics(STEPS), calls[5:]))
    assert saved(merged) == whole

    with np.load(io.BytesIO(saved(observe(StepStatistics(STEPS), calls[:7])))) as arrays:
        resumed = StepStatistics.from_arrays(arrays)
    assert saved(observe(resumed, calls[7:])) == whole


def test_histograms_are_those_of_the_tensor() -> None:
    calls = recordings()
    statistics = observe(StepStatistics(STEPS), calls)
    assert statistics.names == ["a", "b"]
    of_step = histogram_of(np.concatenate([values for name, step, values in calls if (name, step) == ("a", 1)]))
    assert np.array_equal(statistics.of_tensor("a")[1].counts, of_step.counts)
    overall = histogram_of(np.concatenate([values for name, _, values in calls if name == "a"]))
    assert np.array_equal(statistics.overall("a").counts, overall.counts)
    assert statistics.overall("a").exponent == overall.exponent


def test_nothing_recorded_can_be_saved_too() -> None:
    assert StepStatistics.from_arrays(StepStatistics(4).to_arrays()).names == []


def test_an_error_names_tensor_and_step() -> None:
    statistics = StepStatistics(STEPS)
    with pytest.raises(StatisticsError, match=r"'mid\.conv' at step 2: .*1 of 1 are not finite"):
        statistics.observe("mid.conv", 2, np.array([np.nan], dtype=np.float32))
    with pytest.raises(StatisticsError, match="step 3 is outside the plan, whose 3 steps"):
        statistics.observe("mid.conv", 3, np.ones(1, dtype=np.float32))


def test_gaps_and_misfits_are_refused() -> None:
    statistics = StepStatistics(STEPS)
    statistics.observe("a", 1, np.ones(2, dtype=np.float32))
    with pytest.raises(StatisticsError, match=r"'a': nothing was recorded at 2 of 3 steps \(first 0\)"):
        statistics.of_tensor("a")
    with pytest.raises(StatisticsError, match="3 and of 4 steps"):
        statistics.merge(StepStatistics(4))
    with pytest.raises(StatisticsError, match="0 steps were asked for"):
        StepStatistics(0)


def test_damaged_files_are_refused() -> None:
    statistics = StepStatistics(STEPS)
    statistics.observe("a", 1, np.ones(2, dtype=np.float32))
    arrays = statistics.to_arrays()
    without = {key: array for key, array in arrays.items() if key != "exponents"}
    with pytest.raises(StatisticsError, match="no array 'exponents'"):
        StepStatistics.from_arrays(without)
    with pytest.raises(StatisticsError, match=f"and {BINS} bins were expected"):
        StepStatistics.from_arrays({**arrays, "counts": arrays["counts"][:, :-1]})
