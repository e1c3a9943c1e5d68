"""The latent family's look-ups along one axis: equal to the recorded tables in every bit."""

import numpy as np
import pytest

from deploy.images.coordinates import covered_centres, pixel_centres, shifted_index, shifted_lookup
from tests.recordings import recorded_case, recording

AXES = sorted({key.split("/")[0] for key in recording("latent_implicit_decoder") if key.startswith("axis_")})


@pytest.mark.parametrize("case", AXES)
def test_tables_equal_the_recorded_ones(case: str) -> None:
    tables = recorded_case("latent_implicit_decoder", case)
    _, count_in, _, count_out = case.split("_")
    lookup = shifted_lookup(int(count_in), int(count_out))
    assert np.array_equal(lookup.minus.index, tables["index_minus"])
    assert np.array_equal(lookup.plus.index, tables["index_plus"])
    assert np.array_equal(lookup.minus.relative, tables["rel_minus"])
    assert np.array_equal(lookup.plus.relative, tables["rel_plus"])
    assert lookup.relative_cell == tables["rel_cell"][0]
    assert {lookup.minus.relative.dtype, lookup.plus.relative.dtype} == {np.dtype(np.float32)}


def test_the_two_sides_of_a_centre() -> None:
    # At its own centre a pixel's two neighbours are equally near: the 1e-6 takes the pixel and the one behind.
    lookup = shifted_lookup(4, 4)
    assert lookup.minus.index.tolist() == [0, 1, 2, 3]
    assert lookup.plus.index.tolist() == [1, 2, 3, 3]
    assert shifted_index(pixel_centres(4), 4, 0).tolist() == [0, 1, 2, 3]


def test_part_of_an_axis_has_the_centres_of_a_finer_whole() -> None:
    assert np.array_equal(covered_centres(7), pixel_centres(7))
    # The two rules round differently, by a few units in the last place of numbers up to 1.
    np.testing.assert_allclose(covered_centres(6, 0.75), pixel_centres(8)[:6], rtol=0.0, atol=3e-7)
    half, whole = shifted_lookup(8, 10, covered=0.5), shifted_lookup(8, 20)
    assert np.array_equal(half.minus.index, whole.minus.index[:10])
    assert np.array_equal(half.plus.index, whole.plus.index[:10])
    assert half.relative_cell == whole.relative_cell
