"""Pictures corrected in rows against the whole-picture correction, pass by pass."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import SizeError
from deploy.images.back_projection import back_projected_rows, back_projection_bytes
from deploy.images.resize import FloatImage, data_consistency, resize_rows
from deploy.images.sizes import Size


def _noise(*shape: int) -> FloatImage:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _in_blocks(picture: FloatImage, edges: list[int]) -> Iterator[FloatImage]:
    for top, bottom in pairwise([0, *edges, picture.shape[2]]):
        yield picture[:, :, top:bottom].copy()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_equal_the_whole_picture_corrected_pass_by_pass(data: st.DataObject) -> None:
    """Any size, a fraction as scale, smaller than the input too; blocks of any heights."""
    lr = _noise(data.draw(st.integers(1, 2)), 3, data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12)))
    size = Size(data.draw(st.integers(1, 260)), data.draw(st.integers(1, 40)))
    strength, passes = data.draw(st.floats(0.1, 1.0)), data.draw(st.integers(1, 4))
    picture = _noise(*lr.shape[:2], *size)
    edges = sorted(data.draw(st.sets(st.integers(1, size.height - 1), max_size=30))) if size.height > 1 else []
    whole = picture.copy()
    for _ in range(passes):
        data_consistency(whole, lr, strength)
    blocks = list(back_projected_rows(_in_blocks(picture, edges), lr, size, strength=strength, passes=passes))
    # Weights are float32, values up to about 5, and every pass sums a few times more of them.
    np.testing.assert_allclose(np.concatenate(blocks, axis=2), whole, atol=1e-5 * passes)


@pytest.mark.parametrize(("rows", "passes"), [(1, 1), (1, 2), (16, 2), (16, 3)])
def test_few_rows_are_held_however_tall_the_picture(rows: int, passes: int) -> None:
    lr, size = np.zeros((1, 3, 300, 64), np.float32), Size(2400, 512)

    def made() -> int:
        blocks = (np.zeros((1, 3, rows, size.width), np.float32) for _ in range(size.height // rows))
        return sum(part.shape[2] for part in back_projected_rows(blocks, lr, size, strength=1.0, passes=passes))

    assert made() == size.height  # the weights of resizing are kept from here on
    tracemalloc.start()
    try:
        made()
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < back_projection_bytes(Size(300, 64), size, 1, passes) < 0.4 * 12 * size.height * size.width


def test_a_strip_that_lacks_rows_is_refused() -> None:
    with pytest.raises(SizeError, match=r"rows \[1, 11\] of the picture are read, the strip has \[4, 12\]"):
        resize_rows(_noise(8, 5), 4, 16, (8, 5), (2, 4))
