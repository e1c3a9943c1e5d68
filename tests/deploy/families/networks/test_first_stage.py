"""The auto-encoder against the recordings of the official one.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py).
"""

import pytest
import torch

from tests.latent_models import first_stage, latent_network
from tests.recordings import recorded_case
from tests.rounding import assert_same_but_for_rounding as assert_same

ENCODER = "first_stage_model.encoder.0"
MODELS = {"sr": "latent_sr_tiny", "gen": "latent_gen_tiny"}


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("stage1_res_block_normal", "down.1.block.0"),
        ("stage1_res_block_small", "down.1.block.0"),
        ("stage1_attention_normal", "mid.attn_1"),
        ("stage1_attention_small", "mid.attn_1"),
        ("stage1_downsample", "down.0.downsample"),
    ],
)
def test_modules_equal_the_recorded_ones(case: str, name: str) -> None:
    arrays = recorded_case("latent_modules", case)
    module = latent_network("latent_sr_tiny").get_submodule(f"{ENCODER}.{name}")
    assert_same(module(torch.from_numpy(arrays["x"])), arrays["out"], module)


@pytest.mark.parametrize("case", ["sr_encode_32", "sr_encode_h24_w40_batch2", "sr_encode_33", "gen_encode_64"])
def test_encoder_equals_the_recorded_one(case: str) -> None:
    arrays = recorded_case("latent_first_stage_tiny", case)
    stage = first_stage(MODELS[case.split("_")[0]])
    maps = stage.encode(torch.from_numpy(arrays["image"]))
    assert_same(maps, arrays["encoder_out"], stage.encoder)
    if stage.config.double_z:
        mean, log_variance = stage.posterior(maps)
        assert_same(mean, arrays["mean"], stage.encoder)
        assert_same(log_variance, arrays["logvar"], stage.encoder)
        assert_same(stage.latent(maps), arrays["mean"], stage.encoder)
        sample = stage.latent(maps, torch.from_numpy(arrays["posterior_noise"]))
        assert_same(sample, arrays["sample"], stage.encoder)
    else:
        assert torch.equal(stage.latent(maps), maps)


def test_log_variance_is_limited_before_it_becomes_a_deviation() -> None:
    maps = torch.tensor([0.0] * 8 + [-100.0, 100.0] * 4).reshape(2, 8, 1, 1)[1:]
    _, log_variance = first_stage("latent_sr_tiny").posterior(maps)
    assert log_variance.flatten().tolist() == [-30.0, 20.0, -30.0, 20.0]


@pytest.mark.parametrize(
    ("case", "sizes"),
    [
        ("sr_decode_16", (16, 32, 37, 128)),
        ("sr_decode_8", (13, 96)),
        ("gen_decode_16", (37, 64, 129)),
        ("gen_decode_8", (96,)),
    ],
)
def test_decoder_equals_the_recorded_one(case: str, sizes: tuple[int, ...]) -> None:
    arrays = recorded_case("latent_first_stage_tiny", case)
    stage = first_stage(MODELS[case.split("_")[0]])
    z = torch.from_numpy(arrays["z"])
    assert_same(stage.decoder_features(z), arrays["decoder_features"], stage.decoder)
    for size in sizes:
        assert_same(stage.decode(z, (size, size)), arrays[f"out_{size}"], stage.decoder)


def test_non_square_pictures_equal_recorded_queries_on_their_grid() -> None:
    arrays = recorded_case("latent_first_stage_tiny", "sr_query_rect")
    stage = first_stage("latent_sr_tiny")
    picture = stage.decode(torch.from_numpy(arrays["z"]), (31, 50))
    assert_same(picture.permute(0, 2, 3, 1).reshape(1, -1, 3), arrays["out"], stage.decoder)


def test_free_queries_equal_the_recorded_ones() -> None:
    arrays = recorded_case("latent_first_stage_tiny", "sr_query_free")
    stage = first_stage("latent_sr_tiny")
    colours = stage.query(torch.from_numpy(arrays["features"]), arrays["coord"], arrays["cell"])
    assert_same(colours, arrays["out"], stage.decoder.inr)
