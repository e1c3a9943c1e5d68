"""Tiles cover the picture, start on the stride, keep their size, and their weights add up to one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import SizeError
from deploy.images.tiles import Tiling, axis_spans, axis_weights, smallest_tile, whole_tiling

STRIDES = st.sampled_from([1, 4, 8, 16])


def test_an_axis_by_hand() -> None:
    assert axis_spans(100, 48, 16, 8) == [(0, 48), (32, 80), (48, 100)]  # the last shifted back, not shrunk
    assert axis_spans(48, 48, 16, 8) == [(0, 48)]
    assert axis_spans(49, 48, 16, 8) == [(0, 49)]  # less than a stride more goes with the last tile


@settings(max_examples=60, deadline=None)
@given(stride=STRIDES, tiles=st.integers(4, 12), height=st.integers(1, 300), width=st.integers(1, 300))
def test_any_picture_is_covered_and_weights_add_up_to_one(stride: int, tiles: int, height: int, width: int) -> None:
    tiling = Tiling(size=(height, width), tile=tiles * stride, stride=stride)
    total = np.zeros((height, width))
    count = 0
    for window, weights in tiling.windows():
        assert window.top % stride == 0 and window.left % stride == 0
        assert weights.shape == window.size and weights.dtype == np.float32
        for extent, length in zip(window.size, (height, width), strict=True):
            assert min(length, tiling.tile) <= extent < tiling.tile + stride
        total[window.rows, window.columns] += weights
        count += 1
    assert count == len(tiling)
    np.testing.assert_allclose(total, 1.0, atol=2e-6)  # float32 rounding of at most nine shares


def test_the_outer_quarter_of_an_overlap_is_not_used_and_the_rest_is_smooth() -> None:
    first, second = axis_weights([(0, 48), (32, 80)], 16)
    assert (first[44:] == 0).all() and (second[:4] == 0).all()
    assert (first[:32] == 1).all() and (second[16:] == 1).all()
    assert np.abs(np.diff(second)).max() < 0.2  # eight pixels from 0 to 1 along sin^2: at most pi/16 a pixel


def test_a_whole_picture_is_one_tile() -> None:
    tiling = whole_tiling((37, 90), 16)
    assert tiling.is_whole and tiling.largest == (37, 90)
    ((window, weights),) = tiling.windows()
    assert window.size == (37, 90) and (weights == 1).all()


def test_halving_ends_at_the_smallest_tile() -> None:
    tiling: Tiling | None = whole_tiling((1000, 700), 16)
    sides = []
    while (tiling := tiling.halved()) is not None:
        sides.append(tiling.tile)
    assert sides == [496, 240, 112, 64] and smallest_tile(16) == 64
    assert whole_tiling((60, 60), 16).halved() is None


@pytest.mark.parametrize(("tile", "nearest"), [(100, 96), (7, 64), (-3, 64)])
def test_a_tile_that_does_not_suit_the_stride_is_refused(tile: int, nearest: int) -> None:
    with pytest.raises(SizeError, match=rf"tile of {tile} pixels does not suit .* The nearest is {nearest}\."):
        Tiling(size=(500, 500), tile=tile, stride=16)
