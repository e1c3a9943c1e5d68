"""The implicit decoder against the recordings of the official one, and its properties.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py).
"""

import dataclasses

import numpy as np
import pytest
import torch

from deploy.errors import SizeError
from deploy.families.latent import implicit_decoder
from deploy.families.latent.implicit_decoder import ImplicitDecoder
from deploy.images.coordinates import pixel_centres, shifted_lookup
from tests.latent_models import fill_parameters, first_stage, latent_config
from tests.recordings import recorded_case, recording
from tests.rounding import assert_same_but_for_rounding as assert_same

LOOKUPS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]


@pytest.fixture(name="decoder")
def the_tiny_decoder() -> ImplicitDecoder:
    return first_stage("latent_sr_tiny").decoder.inr


@pytest.fixture(name="features")
def some_features() -> torch.Tensor:
    return torch.from_numpy(recorded_case("latent_implicit_decoder", "sq16_to_37")["features"])


def test_picture_equals_the_recorded_one(decoder: ImplicitDecoder, features: torch.Tensor) -> None:
    expected = recorded_case("latent_implicit_decoder", "sq16_to_37")["out"]
    assert_same(decoder.picture(features, (37, 37)), expected, decoder)


@pytest.mark.parametrize("number", range(4))
def test_every_lookup_equals_the_recorded_one(decoder: ImplicitDecoder, features: torch.Tensor, number: int) -> None:
    arrays = recorded_case("latent_implicit_decoder", "sq16_to_37")
    axis = shifted_lookup(16, 37)
    sides = {-1: axis.minus, 1: axis.plus}
    row, column = (sides[direction] for direction in LOOKUPS[number])
    relative = np.meshgrid(row.relative, column.relative, indexing="ij")
    cells = np.full((37, 37), axis.relative_cell)
    inputs = np.stack([*relative, cells, cells], axis=-1).reshape(-1, 4)
    assert np.array_equal(inputs, arrays["rel_coord_and_cell"][number])

    centres = pixel_centres(37)
    grid = np.stack(np.meshgrid(centres, centres, indexing="ij"), axis=-1).reshape(-1, 2)
    answer, area = decoder.predict(features, grid, np.full_like(grid, 2 / 37), LOOKUPS[number])
    assert_same(answer[0], arrays["predictions"][number], decoder)
    np.testing.assert_allclose(area[0], np.abs(inputs[:, 0] * inputs[:, 1]), rtol=2**-23)  # a product, rounded once


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("ensemble", [False, True])
def test_options_equal_the_recorded_ones(cell: bool, ensemble: bool) -> None:
    config = dataclasses.replace(
        latent_config("latent_sr_tiny").first_stage,
        hidden_list=(48, 64, 32),
        cell_decode=cell,
        local_ensemble=ensemble,
    )
    decoder = ImplicitDecoder(config)
    fill_parameters(decoder, prefix=f"variant_cell{cell:d}.")
    features = torch.from_numpy(recording("latent_implicit_decoder")["option/features"])
    expected = recorded_case("latent_implicit_decoder", f"option_cell{cell:d}_ensemble{ensemble:d}")["out"]
    assert_same(decoder.picture(features, (25, 25)), expected, decoder)


@pytest.mark.parametrize("chunk", [1, 7, 40, 1 << 20])
def test_pictures_do_not_depend_on_the_chunk_size(
    decoder: ImplicitDecoder, features: torch.Tensor, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    batch = torch.cat([features, features.flip(3)])[:, :, :5, :4]
    expected = decoder.picture(batch, (9, 6))
    monkeypatch.setattr(implicit_decoder, "QUERIES_PER_CHUNK", chunk)
    assert_same(decoder.picture(batch, (9, 6)), expected, decoder)


def test_batch_items_do_not_see_each_other(decoder: ImplicitDecoder, features: torch.Tensor) -> None:
    batch = torch.cat([features, features.flip(2)])
    alone = [decoder.picture(item[None], (19, 23)) for item in batch]
    assert_same(decoder.picture(batch, (19, 23)), torch.cat(alone), decoder)


def test_part_of_a_latent_decodes_to_the_corner_of_the_whole(decoder: ImplicitDecoder, features: torch.Tensor) -> None:
    whole = decoder.picture(features, (40, 60))
    part = decoder.picture(features, (10, 45), covered=(0.25, 0.75))
    assert_same(part, whole[:, :, :10, :45], decoder)


@pytest.mark.parametrize(("size", "covered"), [((0, 5), (1.0, 1.0)), ((5, 5), (0.0, 1.0)), ((5, 5), (1.0, 1.5))])
def test_impossible_pictures_are_refused(
    decoder: ImplicitDecoder, features: torch.Tensor, size: tuple[int, int], covered: tuple[float, float]
) -> None:
    with pytest.raises(SizeError, match="both sizes must be positive"):
        decoder.picture(features, size, covered)


@pytest.mark.parametrize(("coordinates", "cells"), [((4, 2), (3, 2)), ((4, 3), (4, 3))])
def test_queries_without_their_cells_are_refused(
    decoder: ImplicitDecoder, features: torch.Tensor, coordinates: tuple[int, int], cells: tuple[int, int]
) -> None:
    with pytest.raises(SizeError, match=r"a \(row, column\) pair of coordinates and of cells"):
        decoder.query(features, np.zeros(coordinates, np.float32), np.zeros(cells, np.float32))
