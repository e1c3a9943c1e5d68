"""Covariances of unfolded inputs against loops over output positions, in any split and any blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.errors import StatisticsError, WeightError
from calibration.observe.covariance import Geometry, InputCovariance, passes_within, unfold

GEOMETRY = Geometry(channels=4, kernel=(3, 2), stride=(2, 1), padding=(1, 0, 2, 1))


def inputs(batch: int = 2, channels: int = 4, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((batch, channels, 7, 5)).astype(np.float32)


def positions_by_loops(values: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float64]:
    """One row per output position, written as the definition of a convolution."""
    top, left, bottom, right = geometry.padding
    batch, _, height, width = values.shape
    (rows, columns), (down, across) = geometry.kernel, geometry.stride
    found = []
    for item in range(batch):
        for y in range(0, height + top + bottom - rows + 1, down):
            for x in range(0, width + left + right - columns + 1, across):
                window = np.zeros((geometry.channels, rows, columns))
                for i in range(rows):
                    for j in range(columns):
                        row, column = y + i - top, x + j - left
                        if 0 <= row < height and 0 <= column < width:
                            window[:, i, j] = values[item, :, row, column]
                found.append(window.reshape(-1))
    return np.array(found)


def test_unfolding_is_the_convolution_written_as_a_product() -> None:
    values = inputs()
    unfolded = unfold(values, GEOMETRY)
    expected = positions_by_loops(values, GEOMETRY)
    assert np.array_equal(unfolded.reshape(4 * 3 * 2, -1).T, expected)


def test_products_are_those_of_all_positions() -> None:
    covariance = InputCovariance(GEOMETRY)
    covariance.add(inputs(seed=1))
    covariance.add(inputs(batch=1, seed=2))
    x = np.concatenate([positions_by_loops(v, GEOMETRY) for v in (inputs(seed=1), inputs(batch=1, seed=2))])
    # sums in float32 over some 50 positions
    assert covariance.products[0] == pytest.approx(x.T @ x / len(x), abs=1e-5)
    assert covariance.positions == len(x)


def test_several_tiles_make_one_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """24 columns in tiles of 7, the last of which has 3."""
    monkeypatch.setattr("calibration.observe.covariance._TILE", 7)
    covariance = InputCovariance(GEOMETRY)
    covariance.add(inputs())
    x = positions_by_loops(inputs(), GEOMETRY)
    assert covariance.products[0] == pytest.approx(x.T @ x / len(x), abs=1e-5)


@given(st.integers(1, 9))
def test_blocks_are_parts_of_the_diagonal_and_never_cross_groups(most_columns: int) -> None:
    geometry = Geometry(channels=6, kernel=(1, 2), groups=2)
    blocks = geometry.channel_blocks(most_columns)
    assert [channel for low, high in blocks for channel in range(low, high)] == list(range(6))
    assert all(low // 3 == (high - 1) // 3 for low, high in blocks)
    assert all((high - low) * 2 <= max(most_columns, 2) for low, high in blocks)
    values = inputs(channels=6)
    covariance = InputCovariance(geometry, most_columns=most_columns)
    covariance.add(values)
    x = positions_by_loops(values, geometry)
    full = x.T @ x / len(x)
    for (low, high), product in zip(blocks, covariance.products, strict=True):
        assert product == pytest.approx(full[2 * low : 2 * high, 2 * low : 2 * high], abs=1e-5)


def test_large_inputs_go_in_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = InputCovariance(GEOMETRY)
    whole.add(inputs())
    monkeypatch.setattr("calibration.observe.covariance._BYTES_AT_ONCE", 1)
    by_rows = InputCovariance(GEOMETRY)
    by_rows.add(inputs())
    assert by_rows.positions == whole.positions
    assert by_rows.products[0] == pytest.approx(whole.products[0], abs=1e-5)


def test_positions_can_be_limited() -> None:
    values = np.random.default_rng(0).standard_normal((1, 2, 40, 40)).astype(np.float32)
    covariance = InputCovariance(Geometry(channels=2), most_positions=400)
    covariance.add(values)
    assert covariance.positions == 400
    lattice = values[0, :, 1::2, 1::2].reshape(2, -1)
    assert covariance.products[0] == pytest.approx(lattice @ lattice.T / 400, abs=1e-5)


def test_layers_are_divided_among_passes() -> None:
    layers = {name: Geometry(channels=n) for name, n in [("a", 10), ("b", 10), ("c", 20), ("d", 1)]}
    one = layers["a"].covariance_bytes()
    assert one == 4 * 100
    assert passes_within(layers, layers["c"].covariance_bytes()) == [["a", "b"], ["c"], ["d"]]
    assert passes_within(layers, 10**9) == [["a", "b", "c", "d"]]
    with pytest.raises(WeightError, match="covariance of 'c': it needs 0 MiB"):
        passes_within(layers, 2 * one)


def test_what_no_convolution_has_is_refused() -> None:
    with pytest.raises(WeightError, match="channels that divide into the groups were expected"):
        Geometry(channels=5, groups=2)
    with pytest.raises(WeightError, match="sizes of at least 1"):
        Geometry(channels=5, stride=(0, 1))


def test_misfits_are_refused() -> None:
    covariance = InputCovariance(GEOMETRY)
    with pytest.raises(StatisticsError, match="no input was gathered"):
        _ = covariance.products
    with pytest.raises(StatisticsError, match=r"\(batch, 4, rows, columns\) was expected, found \(2, 3, 7, 5\)"):
        covariance.add(inputs(channels=3))
    with pytest.raises(StatisticsError, match="not finite or too large"):
        covariance.add(np.full((1, 4, 7, 5), np.nan, dtype=np.float32))
