"""The float32 rules for looking up pixels, held to the last bit against the recorded tables."""

import numpy as np
import pytest

from deploy.images.coordinates import axis_lookup, nearest_index, pixel_centres, relative_coordinates, resize_index
from tests.recordings import recording

TABLES = recording("idm_index_tables")
RESIZES = [key for key in TABLES if key.startswith("encoder_resize_index_from_")]


@pytest.mark.parametrize("count", [5, 23, 32, 77, 128])
def test_pixel_centres(count: int) -> None:
    assert np.array_equal(pixel_centres(count), TABLES[f"coord_{count}"])


def test_lookups_of_the_implicit_layers_for_every_size() -> None:
    for count in range(2, 301):
        lookup = axis_lookup(-(-count // 2), count)
        assert np.array_equal(lookup.index, TABLES["halving_index"][count, :count])
        assert np.array_equal(lookup.relative, TABLES["halving_rel_coord"][count, :count])
        assert lookup.relative.dtype == np.float32


def test_samples_exactly_between_two_pixels() -> None:
    ties = TABLES["halving_ties"]
    assert len(ties) == 75
    for low, high, sample, chosen in ties:
        assert axis_lookup(int(low), int(high)).index[sample] == chosen


@pytest.mark.parametrize("key", RESIZES)
def test_nearest_resize_of_the_encoder(key: str) -> None:
    count = int(key.removeprefix("encoder_resize_index_from_"))
    for target in range(1, 385):
        assert np.array_equal(resize_index(count, target), TABLES[key][target, :target])


def test_resize_where_float32_differs_from_exact_arithmetic() -> None:
    rows = TABLES["encoder_resize_mismatch"]
    for count, target, sample, chosen, exact in rows:
        assert sample * count // target == exact
        assert resize_index(int(count), int(target))[sample] == chosen != exact
    assert {(16, 82)} <= {(int(row[0]), int(row[1])) for row in rows}


def test_nearest_pixel_by_hand() -> None:
    # Two pixels: centres -0.5 and 0.5. At 0 both are equally near: 0.5 rounds half to even, so pixel 0.
    assert pixel_centres(2).tolist() == [-0.5, 0.5]
    assert nearest_index(np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32), 2).tolist() == [0, 0, 0, 1, 1]


def test_relative_coordinates_by_hand() -> None:
    # From 1 to 2 pixels: the only centre is 0, the samples lie half a pixel of the small grid to either side.
    lookup = axis_lookup(1, 2)
    assert lookup.index.tolist() == [0, 0]
    assert lookup.relative.tolist() == [-0.5, 0.5]
    same = pixel_centres(7)
    assert np.array_equal(relative_coordinates(same, np.arange(7), 7), np.zeros(7, np.float32))
