import io

import numpy as np
import pytest

from calibration.errors import GraphError
from calibration.targets.range_rows import CHANNELS, NUMBERS, RangeConstants, RangeRows, RowWriter


def rows(corrected: bool) -> RangeRows:
    """Two ranges: a number (2, then 3) and a vector 10 + factor * (1, 2), with corrections in its second range."""
    writer = RowWriter("extra", 2)
    writer.add("number", np.array([2.0, 3.0]))
    writer.add(
        "vector",
        np.array([1.0, 5.0]),
        np.array([1, 2], dtype=np.float32),
        np.array([10, 10], dtype=np.float32),
        np.array([[0, 0], [0.5, -0.5]], dtype=np.float32) if corrected else None,
    )
    return writer.rows(leading=(1,), trailing=(1, 1))


@pytest.mark.parametrize("corrected", [False, True])
def test_rows_by_hand(corrected: bool) -> None:
    made = rows(corrected)
    assert made.row(0).shape == (1, 3, 1, 1) and made.row(0).dtype == np.float32
    assert made.row(0).reshape(-1).tolist() == [2, 11, 12]
    assert made.row(1).reshape(-1).tolist() == ([3, 15.5, 19.5] if corrected else [3, 15, 20])
    assert made.row(0).reshape(-1).tolist() == [2, 11, 12]  # a row is made anew, nothing is left of the others


@pytest.mark.parametrize("corrected", [False, True])
def test_saving_and_loading_is_identity(corrected: bool) -> None:
    file = io.BytesIO()
    np.savez(file, **rows(corrected).to_arrays())
    file.seek(0)
    with np.load(file) as arrays:
        again = RangeRows.from_arrays("extra", arrays)
    for index in range(2):
        np.testing.assert_array_equal(again.row(index), rows(corrected).row(index))


def test_segments_become_initializers() -> None:
    """Numbers without axes, vectors with one."""
    numbers, vectors = RowWriter(NUMBERS, 2), RowWriter(CHANNELS, 2)
    for name, values in {"a": (1, 2), "b": (3, 4)}.items():
        numbers.add(name, np.array(values, dtype=np.float32))
    for name, size in {"c": 1, "d": 2}.items():
        vectors.add(name, np.array([1.0, 5.0]), np.ones(size, dtype=np.float32))
    made = [RangeConstants(names=tuple(writer.names), rows=writer.rows()) for writer in (numbers, vectors)]
    found = made[0].in_range(1) | made[1].in_range(1)
    assert {name: (value.shape, value.tolist()) for name, value in found.items()} == {
        "a": ((), 2),
        "b": ((), 4),
        "c": ((1,), [5]),
        "d": ((2,), [5, 5]),
    }
    with pytest.raises(GraphError, match=r"1 names for 2 segments of range_numbers\. Quantize again"):
        RangeConstants(names=("a",), rows=numbers.rows())


def test_a_further_range_costs_one_number_per_segment() -> None:
    one, eight = (RowWriter("extra", count) for count in (1, 8))
    for writer in (one, eight):
        writer.add("vector", np.ones(writer.ranges), np.ones(1000, dtype=np.float32))
    sizes = [sum(a.nbytes for a in writer.rows().to_arrays().values()) for writer in (one, eight)]
    assert sizes[1] - sizes[0] == 7 * 4


@pytest.mark.parametrize("index", [-1, 2])
def test_a_range_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises(GraphError, match=rf"row of range {index} for extra: ranges count from 0 to 1"):
        rows(False).row(index)


def test_a_file_without_an_array_is_refused() -> None:
    arrays = rows(False).to_arrays()
    del arrays["slopes"]
    with pytest.raises(GraphError, match="reading the rows for extra: there is no array 'slopes'"):
        RangeRows.from_arrays("extra", arrays)
