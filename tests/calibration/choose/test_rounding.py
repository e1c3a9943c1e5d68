"""Second-order rounding against exhaustive search, against nearest, and for grouped and blocked layers."""

from itertools import product as combinations_of

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.choose.rounding import round_to_nearest, round_weights
from calibration.errors import WeightError
from calibration.observe.covariance import Geometry, InputCovariance

LIGHT = 1e-6


def covariance_of(n: int, seed: int = 0, samples: int = 12) -> NDArray[np.float64]:
    x = np.random.default_rng(seed).standard_normal((samples, n)) @ np.random.default_rng(seed + 1).random((n, n))
    covariance: NDArray[np.float64] = x.T @ x / samples
    return covariance


def error_of(change: NDArray[np.float64], covariance: NDArray[np.float64]) -> float:
    return float(np.einsum("oi,ij,oj->", change, covariance, change))


def test_the_example_of_the_module() -> None:
    covariance = np.array([[1, 0.9], [0.9, 1]])
    # A third input that is never on sets the scale to 1: the highest code, 1, stands for its weight.
    products = np.zeros((3, 3))
    products[:2, :2] = covariance
    products[2, 2] = 1e3
    rounded = round_weights("fc", np.array([[0.4, 0.4, 1.0]]), [products], damping=1e-9, highest=1)
    assert rounded.scales.tolist() == [1.0]
    assert rounded.codes.tolist() == [[1, 0, 1]]
    assert rounded.error == pytest.approx(0.088)
    assert rounded.nearest_error == pytest.approx(0.608)


@pytest.mark.parametrize("seed", range(8))
def test_a_tiny_layer_comes_close_to_the_best_of_all_codes(seed: int) -> None:
    """Three weights: per output channel all 343 codes are tried that lie within 3 of the weights.

    A fourth, independent input carries the largest weight, so that no code of the others is at its limit.
    """
    weight = np.random.default_rng(seed).uniform(-0.9, 0.9, (40, 4))
    weight[:, 3] = 1.0
    products = [covariance_of(3, seed), np.eye(1)]
    rounded = round_weights("fc", weight, products, damping=LIGHT)
    assert rounded.codes[:, 3].tolist() == [127] * 40
    offsets = np.array(list(combinations_of(range(-3, 4), repeat=3)))
    best = 0.0
    for row, scale in zip(weight[:, :3], rounded.scales.astype(np.float64), strict=True):
        changes = row - scale * (np.rint(row / scale) + offsets)
        best += np.einsum("oi,ij,oj->o", changes, products[0], changes).min()
    assert best * (1 - 1e-9) <= rounded.error <= rounded.nearest_error
    # The nearest plane is no exhaustive search: 1.01 to 1.93 times the best here, where nearest takes 2.5 to 19.5.
    assert rounded.error <= 2 * best


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([127, 1]))
def test_never_worse_than_nearest_and_the_errors_are_true(n: int, outputs: int, seed: int, highest: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((outputs, n))
    covariance = covariance_of(n, seed, samples=n)
    rounded = round_weights("fc", weight, [covariance], highest=highest)
    scales = rounded.scales
    nearest = np.clip(np.rint(weight / scales[:, None].astype(np.float64)), -highest, highest)
    assert rounded.error <= rounded.nearest_error * (1 + 1e-9)
    assert rounded.codes.min() >= -highest
    assert rounded.codes.max() <= highest
    size = error_of(weight, covariance)
    dequantized = scales[:, None].astype(np.float64) * rounded.codes
    assert rounded.error == pytest.approx(error_of(weight - dequantized, covariance), abs=1e-9 * size)
    assert rounded.nearest_error == pytest.approx(
        error_of(weight - scales[:, None].astype(np.float64) * nearest, covariance), abs=1e-9 * size
    )
    assert rounded.signal == pytest.approx(size)


def test_correlated_inputs_gain_several_decibels() -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.standard_normal((2, 6, 24, 24)), axis=3).astype(np.float32)
    covariance = InputCovariance(Geometry(channels=6, kernel=(3, 3), padding=(1, 1, 1, 1)))
    covariance.add(smooth)
    weight = rng.standard_normal((16, 6, 3, 3)).astype(np.float32)
    rounded = round_weights("conv", weight, covariance.products)
    assert rounded.codes.shape == weight.shape
    assert rounded.weights == pytest.approx(weight, abs=0.1)
    assert rounded.error < rounded.nearest_error / 2


def test_groups_and_blocks_are_rounded_on_their_own() -> None:
    """A grouped layer equals its groups one by one, and a matrix of blocks the blocks one by one."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((6, 4, 1, 1))
    products = [covariance_of(4, seed) for seed in range(3)]
    grouped = round_weights("grouped", weight, products)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        alone = round_weights("alone", weight[rows], [products[group]])
        assert np.array_equal(grouped.codes[rows], alone.codes)
        assert np.array_equal(grouped.scales[rows], alone.scales)

    whole = np.zeros((12, 12))
    for block, product in enumerate(products):
        whole[4 * block : 4 * block + 4, 4 * block : 4 * block + 4] = product
    wide = rng.standard_normal((5, 12))
    in_blocks, at_once = round_weights("wide", wide, products), round_weights("wide", wide, [whole])
    # The damping is a share of the mean diagonal, of each block or of all: nearly the same codes, nearly the same cost.
    assert in_blocks.error == pytest.approx(at_once.error, rel=0.3)
    assert in_blocks.nearest_error == pytest.approx(at_once.nearest_error)


def test_more_columns_than_one_block_of_work() -> None:
    """The blocked loop against the formula column by column."""
    n, rng = 150, np.random.default_rng(4)
    x = rng.standard_normal((400, n)) @ rng.random((n, n))
    covariance = x.T @ x / 400
    covariance = covariance[np.ix_(*2 * [np.argsort(np.diag(covariance), kind="stable")])]  # order already taken
    weight = rng.standard_normal((3, n))
    rounded = round_weights("fc", weight, [covariance])
    factor = np.linalg.cholesky(covariance + 0.01 * np.diag(covariance).mean() * np.eye(n)).T
    scaled = weight / rounded.scales[:, None].astype(np.float64)
    codes, change = np.zeros_like(scaled), np.zeros_like(scaled)
    for i in reversed(range(n)):
        wanted = scaled[:, i] + change[:, i + 1 :] @ factor[i, i + 1 :] / factor[i, i]
        codes[:, i] = np.clip(np.rint(wanted), -127, 127)
        change[:, i] = scaled[:, i] - codes[:, i]
    # float32 inside: a value near a half may go the other way, and what follows adapts to it.
    assert np.mean(codes != rounded.codes) < 0.05
    assert rounded.error == pytest.approx(error_of(change * rounded.scales[:, None], covariance), rel=0.05)


def test_scales_clip_an_outlier_where_that_costs_less() -> None:
    weight = np.append(np.linspace(-0.5, 0.5, 4000), 1.0)[None]
    assert round_to_nearest("fc", weight, highest=7).scales[0] < 1 / 7
    importance = np.append(np.full(4000, 1e-6), 1.0)  # only the outlier matters
    rounded = round_weights("fc", weight, [np.array([[square]]) for square in importance], highest=7)
    assert rounded.scales[0] == pytest.approx(1 / 7)


def test_zero_weights_and_zero_inputs() -> None:
    weight = np.array([[0.0, 0.0], [0.5, -1.0]])
    rounded = round_weights("fc", weight, [np.zeros((2, 2))])
    assert rounded.codes.tolist() == [[0, 0], [64, -127]]  # 63.5 rounds to the even code
    assert rounded.sqnr_db == np.inf
    assert rounded.scales[0] == 1.0


def test_damping_grows_for_an_indefinite_matrix_and_gives_up_on_a_negative_one() -> None:
    nearly = np.array([[1.0, 1.05], [1.05, 1.0]])  # smallest eigenvalue -0.05
    assert round_weights("fc", np.array([[0.3, 0.7]]), [nearly]).codes.shape == (1, 2)
    with pytest.raises(WeightError, match=r"'fc': its input covariance has negative eigenvalues"):
        round_weights("fc", np.array([[0.3, 0.7]]), [np.array([[1.0, 1e6], [1e6, 1.0]])])


def test_misfits_are_refused() -> None:
    weight = np.ones((4, 6))
    with pytest.raises(WeightError, match=r"'fc': weights of shape \(4, 6\)"):
        round_weights("fc", weight, [np.eye(5)])
    with pytest.raises(WeightError, match="gather them from this layer's own input"):
        round_weights("fc", weight, [np.ones((6, 5))])
    with pytest.raises(WeightError, match="a covariance of 4 columns crosses two groups"):
        round_weights("fc", weight, [np.eye(4)] * 3)
    with pytest.raises(WeightError, match="covariance is not finite"):
        round_weights("fc", weight, [np.full((6, 6), np.nan)])
    with pytest.raises(WeightError, match="1 values that are not finite"):
        round_to_nearest("fc", np.array([[1.0, np.inf]]))
    with pytest.raises(WeightError, match=r"'fc': finite weights of shape \(outputs, inputs, ...\)"):
        round_weights("fc", np.ones(3), [np.eye(3)])
