"""The latent family's configuration: what is refused, what is derived, and its way through JSON."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.errors import ConfigError, SizeError
from deploy.families.latent.config import LatentConfig, latent_config_from_mapping
from tests.latent_models import LATENT_NAMES, latent_config

SR, GEN = "latent_sr_tiny", "latent_gen_tiny"


def with_part(name: str, part: str, **changes: Any) -> LatentConfig:
    """A recorded configuration with changes in its `unet` or `first_stage`."""
    config = latent_config(name)
    changed = dataclasses.replace(getattr(config, part), **changes)
    return dataclasses.replace(config, **{part: changed})


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_json_and_back_is_identity(name: str) -> None:
    config = latent_config(name)
    assert latent_config_from_mapping(json.loads(json.dumps(config.as_mapping()))) == config


@pytest.mark.parametrize(
    ("name", "part", "changes", "message"),
    [
        (SR, "unet", {"model_channels": 0}, "model_channels must be a positive whole number, not 0"),
        (SR, "unet", {"num_res_blocks": True}, "num_res_blocks must be a positive whole number, not True"),
        (SR, "unet", {"channel_mult": ()}, "channel_mult must be a tuple of positive whole numbers"),
        (SR, "unet", {"attention_resolutions": (0,)}, "attention_resolutions must be a tuple of positive"),
        (SR, "unet", {"model_channels": 40}, "40 channels do not split into 32 norm groups"),
        (SR, "unet", {"num_head_channels": 24}, "64 channels do not split into heads of 24"),
        (SR, "unet", {"model_channels": 33, "norm_groups": 11}, "model_channels must be even"),
        (SR, "first_stage", {"z_channels": -1}, "z_channels must be a positive whole number, not -1"),
        (SR, "first_stage", {"hidden_list": [256]}, r"hidden_list must be a tuple .* not \[256\]"),
        (SR, "first_stage", {"double_z": 1}, "double_z must be true or false"),
        (SR, "first_stage", {"ch": 48}, "48 channels do not split into 32 norm groups"),
        (SR, "first_stage", {"z_channels": 5}, r"one number of channels \(channels 4, U-Net output 4, auto-encoder 5"),
        (SR, "unet", {"in_channels": 4}, "super-resolution needs 8 U-Net input channels, not 4"),
        (GEN, "unet", {"in_channels": 6}, "generation needs 3 U-Net input channels, not 6"),
    ],
)
def test_impossible_parts_are_refused(name: str, part: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_part(name, part, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (SR, {"kind": "upscaling"}, "kind must be one of super-resolution, generation, first-stage"),
        (SR, {"kind": "first-stage"}, "kind first-stage goes without a U-Net"),
        (SR, {"unet": None}, "kind super-resolution goes with a U-Net"),
        (SR, {"lr_size": None}, "lr_size must be a positive whole number, not None"),
        (GEN, {"image_size": None}, "image_size must be a positive whole number, not None"),
        (SR, {"linear_start": 0.5}, "must be fractions that rise, not 0.5, 0.015"),
        (SR, {"linear_end": "0.01"}, "must be fractions that rise, not 0.0001, '0.01'"),
        (SR, {"timesteps": 0}, "timesteps must be a positive whole number"),
        (SR, {"conditioning_key": None}, "super-resolution needs conditioning_key concat, not None"),
        (GEN, {"conditioning_key": "concat"}, "generation needs conditioning_key None, not concat"),
        (SR, {"c_encode": False}, "c_encode must be true"),
        (SR, {"inp_size": 33}, "inp_size 33 is not 2 times image_size 16"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(latent_config(name), **changes)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"timesteps .*; linear_start and linear_end .*"):
        dataclasses.replace(latent_config(SR), timesteps=-1, linear_end=2.0)


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ((), {"timestep": 5}, "latent model configuration has an unknown key 'timestep'; did you mean 'timesteps'?"),
        (("unet",), {"heads": 5}, "unet configuration has an unknown key 'heads'; known are image_size"),
        (("first_stage",), {"z_channels": None}, "first_stage configuration lacks z_channels"),
        ((), {"first_stage": 7}, "first_stage configuration must be a mapping of names to values, not 7"),
    ],
)
def test_malformed_mappings_are_refused(path: tuple[str, ...], change: dict[str, Any], message: str) -> None:
    values = latent_config(SR).as_mapping()
    place = values
    for key in path:
        place = place[key]
    place.update(change)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        latent_config_from_mapping(values)


def test_training_square_needs_no_padding() -> None:
    for name in LATENT_NAMES:
        config = latent_config(name)
        if config.kind == "super-resolution":
            side = config.lr_size or 0
            assert config.resized_size(side, side) == (config.inp_size, config.inp_size)
            assert config.covered(side, side) == (1.0, 1.0)


def test_sizes_by_hand() -> None:
    # 48 -> 192 is 4 times; the latent is a quarter of that and must divide by 8: steps of 32 pixels.
    config = latent_config("latent_sr_div2k_48_192")
    assert config.resized_size(30, 50) == (120, 200)
    assert config.padded_size(30, 50) == (128, 224)
    assert config.covered(30, 50) == (120 / 128, 200 / 224)
    odd = dataclasses.replace(config, lr_size=77)  # 2.4935 times: 7.48 and 2.49 pixels
    assert odd.resized_size(3, 1) == (7, 2)
    half = dataclasses.replace(config, lr_size=128)  # 1.5: 3 pixels become 4.5, rounded up
    assert half.resized_size(3, 1) == (5, 2)


@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_padding_is_the_least_that_divides(height: int, width: int) -> None:
    config = latent_config(SR)
    for size, padded in zip(config.resized_size(height, width), config.padded_size(height, width), strict=True):
        assert padded % 8 == 0
        assert 0 <= padded - size < 8


def test_impossible_inputs_are_refused() -> None:
    with pytest.raises(SizeError, match="low-resolution image of 5x0 pixels has nothing to enlarge"):
        latent_config(SR).resized_size(0, 5)
    with pytest.raises(ConfigError, match="Only a super-resolution model has a low-resolution input"):
        latent_config(GEN).resized_size(5, 5)


def test_attention_levels_follow_the_published_configurations() -> None:
    levels = {}
    for name in ("latent_sr_ffhq_16_128", "latent_sr_div2k_48_192", "latent_sr_df2k_48_192"):
        unet = latent_config(name).unet
        assert unet is not None
        levels[name] = [level for level in range(4) if unet.has_attention(level)]
    assert list(levels.values()) == [[0, 1, 2], [3], []]
