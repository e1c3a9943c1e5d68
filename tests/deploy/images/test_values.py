"""Value conversions against pictures that the official implementations wrote, and by hand."""

from pathlib import Path

import numpy as np
import pytest

from deploy.errors import OutputError
from deploy.families.idm.model import VALUES as IDM_VALUES
from deploy.families.latent.model import VALUES as LATENT_VALUES
from deploy.images.values import network_from_pixels, pixels_from_network, rounded

RECORDED = Path(__file__).parents[2] / "reference" / "image_values.npz"


RULES = {"idm": IDM_VALUES, "latent": LATENT_VALUES}


@pytest.mark.parametrize("family", ["idm", "latent"])
def test_recorded_outputs_give_the_recorded_pixels(family: str) -> None:
    with np.load(RECORDED) as recorded:
        values, pixels = recorded[f"{family}_values"], recorded[f"{family}_pixels"]
    np.testing.assert_array_equal(pixels_from_network(values, RULES[family]), pixels)
    np.testing.assert_array_equal(pixels_from_network(values[None], RULES[family]), pixels[None])


def test_idm_rounds_half_to_even_and_latent_truncates() -> None:
    # 255 * (v + 1) / 2 = 127.5 at v = 0; 127.9 at v = 0.4/127.5; limits beyond the range.
    values = np.array([0.0, 0.4 / 127.5, -3.0, 3.0], np.float32).reshape(1, 1, 1, 4).repeat(3, axis=1)
    assert pixels_from_network(values, IDM_VALUES)[0, 0, :, 0].tolist() == [128, 128, 0, 255]
    assert pixels_from_network(values, LATENT_VALUES)[0, 0, :, 0].tolist() == [127, 127, 0, 255]
    assert pixels_from_network(values, rounded(LATENT_VALUES))[0, 0, :, 0].tolist() == [128, 128, 0, 255]


def test_levels_become_the_published_network_values() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    exact = np.moveaxis(pixels, -1, 0) / 127.5 - 1.0
    for family in ("idm", "latent"):
        values = network_from_pixels(pixels, RULES[family])
        assert values.shape == (3, 16, 16) and values.dtype == np.float32 and values.flags.c_contiguous
        # (x/255 - 0.5)/0.5 in float32 carries two roundings of 2**-25, doubled.
        np.testing.assert_allclose(values, exact, atol=2e-7)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(network_from_pixels(pixels, IDM_VALUES)[0].ravel(), (levels - 0.5) / 0.5)


def test_a_round_trip_keeps_pixels_with_idm_and_darkens_by_at_most_one_with_latent() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_from_network(network_from_pixels(pixels, IDM_VALUES), IDM_VALUES), pixels)
    back = pixels_from_network(network_from_pixels(pixels, LATENT_VALUES), LATENT_VALUES).astype(int)
    assert set(np.unique(pixels - back)) <= {0, 1}


def test_values_that_are_no_numbers_are_refused() -> None:
    values = np.zeros((1, 3, 2, 2), np.float32)
    values[0, 1, 0, 0], values[0, 2, 1, 1] = np.nan, np.inf
    with pytest.raises(OutputError, match="2 of 12 values are not finite"):
        pixels_from_network(values, IDM_VALUES)


def test_pictures_made_of_grey_ones_become_the_mean_of_their_limited_channels() -> None:
    values = np.zeros((2, 3, 1, 2), np.float32)
    values[:, :, 0, 0] = [0.2, -0.4, 0.8]  # mean 0.2: level 0.6 * 255 = 153
    values[:, :, 0, 1] = [5.0, -1.0, 0.0]  # the first limited to 1: mean 0, level 127.5, to even 128
    grey, colour = pixels_from_network(values, IDM_VALUES, grey=(True, False))
    assert grey[0].tolist() == [[153, 153, 153], [128, 128, 128]]
    np.testing.assert_array_equal(colour, pixels_from_network(values, IDM_VALUES)[1])
    values[0, 0, 0, 0] = np.inf
    with pytest.raises(OutputError, match="1 of 12 values are not finite"):
        pixels_from_network(values, IDM_VALUES, grey=(True, False))
