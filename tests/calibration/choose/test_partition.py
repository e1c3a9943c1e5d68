"""Partitions against brute force over all of them, and the costs against the errors they stand for."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.choose.clipping import Entropy, Method, MinMax, Mse, Percentile, choose_for_steps, expected_error
from calibration.choose.density import Density, density_of
from calibration.choose.partition import (
    FixedRanges,
    MarginalGain,
    Partition,
    best_partitions,
    choose_partition,
    range_costs,
    relative_weights,
    total_costs,
)
from calibration.choose.quantizer import Asymmetric, Form, Symmetric
from calibration.errors import ChoiceError, StatisticsError
from calibration.observe.statistics import histogram_of


def growing_steps(count: int) -> list[Density]:
    rng = np.random.default_rng(0)
    return [
        density_of(histogram_of((2.0**step * rng.standard_normal(400)).astype(np.float32))) for step in range(count)
    ]


def table_of(values: list[float], n: int) -> np.ndarray:
    table = np.full((n, n + 1), np.inf)
    table[np.triu_indices(n, 1, n + 1)] = values
    return table


def test_the_example_of_the_module() -> None:
    # rows 0, 1, 2 above the diagonal: [0,1) [0,2) [0,3) | [1,2) [1,3) | [2,3)
    partitions = best_partitions(table_of([0, 1, 9, 0, 5, 0], 3))
    assert [partition.cost for partition in partitions] == [9, 1, 0]
    assert partitions[1].boundaries == (0, 2, 3)
    assert [partitions[1].range_of_step(step) for step in range(3)] == [0, 0, 1]


@given(st.integers(1, 6), st.data())
@settings(max_examples=60)
def test_no_partition_is_better_and_each_covers_every_step_once(n: int, data: st.DataObject) -> None:
    count = n * (n + 1) // 2
    costs = table_of(data.draw(st.lists(st.floats(0, 100), min_size=count, max_size=count)), n)
    for k, partition in enumerate(best_partitions(costs), start=1):
        assert partition.ranges == k
        covered = [step for low, high in pairwise(partition.boundaries) for step in range(low, high)]
        assert covered == list(range(n))
        every = [(0, *inner, n) for inner in combinations(range(1, n), k - 1)]
        totals = [sum(costs[low, high] for low, high in pairwise(boundaries)) for boundaries in every]
        assert partition.cost == pytest.approx(min(totals))
        assert sum(costs[low, high] for low, high in pairwise(partition.boundaries)) == pytest.approx(partition.cost)


@pytest.mark.parametrize("method", [Mse(), MinMax(), Percentile(percent=99.5), Entropy(bounds=12)])
@pytest.mark.parametrize("form", [Symmetric(), Asymmetric()])
def test_costs_are_the_errors_under_the_scale_that_is_then_chosen(form: Form, method: Method) -> None:
    steps, weights = growing_steps(4), np.array([1.0, 2.0, 0.5, 0.25])
    costs = range_costs(steps, form, method, weights)[0]
    for low in range(4):
        assert np.isinf(costs[low, : low + 1]).all()
        for high in range(low + 1, 5):
            quantizer = choose_for_steps(steps[low:high], form, method, weights[low:high])
            errors = [w * expected_error(s, quantizer) for s, w in zip(steps[low:high], weights[low:high], strict=True)]
            # A mixture sees a step in the bins of the widest one, up to 8 times as wide: seen up to 4 %. The grid of
            # scales for all steps is longer than that for some of them: 400 samples may like one of the others.
            tolerance = 0.005 if isinstance(method, Mse) else 0.08
            assert costs[low, high] == pytest.approx(sum(errors), rel=tolerance)


def test_the_quantizer_of_all_steps_comes_with_the_costs() -> None:
    steps, weights = growing_steps(4), [1.0, 2.0, 0.5, 0.25]
    for form in (Symmetric(), Asymmetric()):
        costs, whole = range_costs(steps, form, Mse(), weights)
        assert np.array_equal(costs, range_costs(steps, form, Mse(), weights)[0])
        assert whole == choose_for_steps(steps, form, Mse(), weights)
        assert range_costs(steps, form, MinMax(), weights)[1] is None


def test_ranges_that_grow_with_the_steps_are_worth_dividing_and_equal_ones_are_not() -> None:
    steps = growing_steps(6)
    weights = relative_weights(steps)
    assert weights == pytest.approx([1 / step.power for step in steps])
    partitions = best_partitions(range_costs(steps, Symmetric(), Mse(), weights)[0])
    costs = [partition.cost for partition in partitions]
    assert costs == sorted(costs, reverse=True)
    assert choose_partition(partitions, MarginalGain()).ranges > 1
    alike = best_partitions(range_costs([steps[0]] * 6, Symmetric(), Mse())[0])
    assert choose_partition(alike, MarginalGain()).ranges == 1


def test_a_tensor_that_is_zero_at_a_step_costs_nothing_there() -> None:
    zero = density_of(histogram_of(np.zeros(10, dtype=np.float32)))
    steps = [*growing_steps(1), zero]
    costs = range_costs(steps, Symmetric(), Mse(), relative_weights(steps))[0]
    assert costs[1, 2] == 0
    assert costs[0, 2] == pytest.approx(costs[0, 1])


def partitions_costing(costs: list[float]) -> list[Partition]:
    return [Partition(boundaries=tuple(range(k + 2)), cost=cost) for k, cost in enumerate(costs)]


@pytest.mark.parametrize(
    ("costs", "ranges"),
    [
        ([100, 50, 40, 39, 38.5], 3),
        ([100, 99, 60, 59], 3),  # a range that gains nothing alone may lead to one that does
        ([100, 99, 98, 97], 1),
        ([0, 0, 0], 1),
        ([100, 80, 60, 40, 20], 4),  # the limit
    ],
)
def test_marginal_gain_by_hand(costs: list[float], ranges: int) -> None:
    assert choose_partition(partitions_costing(costs), MarginalGain(least_gain=0.05, most=4)).ranges == ranges


def test_a_number_of_ranges_can_be_asked_for() -> None:
    partitions = partitions_costing([3, 2, 1])
    assert choose_partition(partitions, FixedRanges(count=2)).ranges == 2
    with pytest.raises(ChoiceError, match="partitioning 3 steps: 4 ranges were asked for; choose from 1 to 3"):
        choose_partition(partitions, FixedRanges(count=4))
    with pytest.raises(ChoiceError, match="0 ranges were asked for"):
        choose_partition(partitions, FixedRanges(count=0))


def test_costs_of_tensors_add_up() -> None:
    assert total_costs([np.ones((1, 2)), np.full((1, 2), 2.0)]).tolist() == [[3, 3]]
    with pytest.raises(StatisticsError, match="tables of one shape were expected"):
        total_costs([np.ones((1, 2)), np.ones((2, 3))])
    with pytest.raises(StatisticsError, match="tables of one shape were expected"):
        total_costs([])


def test_misfits_are_refused() -> None:
    with pytest.raises(StatisticsError, match="no step was given"):
        range_costs([], Symmetric(), Mse())
    with pytest.raises(ChoiceError, match="2 finite weights of at least 0 were expected"):
        range_costs(growing_steps(2), Symmetric(), Mse(), [1.0, -1.0])
    with pytest.raises(StatisticsError, match=r"found shape \(2, 2\)"):
        best_partitions(np.ones((2, 2)))
    with pytest.raises(StatisticsError, match="finite above its diagonal"):
        best_partitions(np.full((2, 3), np.nan))
    with pytest.raises(StatisticsError, match=r"step 3: the partition covers 0\.\.2"):
        Partition(boundaries=(0, 3), cost=0).range_of_step(3)
    with pytest.raises(ChoiceError, match="least gain 0 and at most 8"):
        MarginalGain(least_gain=0)
