"""The modules of the latent U-Net against the recordings of the official ones.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py).
"""

import dataclasses

import pytest
import torch
from torch import nn

from deploy.families.compvis.unet import LatentUNet, timestep_embedding
from tests.latent_models import latent_config, latent_network
from tests.recordings import recorded_case, recording
from tests.rounding import assert_same_but_for_rounding as assert_same
from tests.rounding import rounding_of_embedding

UNET = "model.diffusion_model"


def module(name: str) -> nn.Module:
    return latent_network("latent_sr_tiny").get_submodule(f"{UNET}.{name}")


@pytest.mark.parametrize(("array", "channels"), [("sinusoid", 32), ("sinusoid_256", 256)])
def test_timestep_embedding_equals_the_recorded_one(array: str, channels: int) -> None:
    case = recorded_case("latent_modules", "time_embedding")
    timesteps = torch.from_numpy(case["t"])
    difference = (timestep_embedding(timesteps, channels) - torch.from_numpy(case[array])).abs()
    # The same formula in the same precision, but another processor has another exp: up to 2e-4 at timestep 999.
    assert bool((difference <= rounding_of_embedding(timesteps, channels)).all()), float(difference.max())


def test_timestep_embedding_by_hand() -> None:
    # half = 2: frequencies 1 and 1/100.
    embedding = timestep_embedding(torch.tensor([0, 50]), 4)
    expected = [[1.0, 1.0, 0.0, 0.0], [0.964966, 0.877583, -0.262375, 0.479426]]
    # Six digits were written; the angles 50 and 0.5 round to 2e-7 at most, as 50 is exact.
    torch.testing.assert_close(embedding, torch.tensor(expected), rtol=0.0, atol=1e-6)


def test_embedding_network_equals_the_recorded_one() -> None:
    case = recorded_case("latent_modules", "time_embedding")
    layers = latent_network("latent_sr_tiny").model.diffusion_model.time_embed
    assert_same(layers(torch.from_numpy(case["sinusoid"])), case["out"], layers)


@pytest.mark.parametrize("size", ["normal", "small"])
@pytest.mark.parametrize(
    ("case", "name"),
    [("unet_res_block", "input_blocks.3.0"), ("unet_attention", "middle_block.1"), ("unet_out", "out")],
)
def test_modules_equal_the_recorded_ones(case: str, name: str, size: str) -> None:
    arrays = recorded_case("latent_modules", f"{case}_{size}")
    x = torch.from_numpy(arrays["x"])
    extra: tuple[torch.Tensor, ...] = ()
    if case == "unet_res_block":
        extra = (torch.from_numpy(recording("latent_modules")["time_embedding/out"][2:3]),)
    assert_same(module(name)(x, *extra), arrays["out"], module(name))


@pytest.mark.parametrize(
    ("case", "name"), [("unet_downsample", "input_blocks.2.0"), ("unet_upsample", "output_blocks.1.1")]
)
def test_resampling_equals_the_recorded_one(case: str, name: str) -> None:
    arrays = recorded_case("latent_modules", case)
    assert_same(module(name)(torch.from_numpy(arrays["x"])), arrays["out"], module(name))


@pytest.mark.parametrize(
    ("rates", "first_names"),
    [
        # A rate that no level has shifts nothing but the names behind the missing attention (quirk 9).
        ((8, 4), {"input_blocks.5.1", "middle_block.1", "output_blocks.0.1", "output_blocks.1.1"}),
        ((12, 6), {"middle_block.1"}),
        ((), {"middle_block.1"}),
    ],
)
def test_attention_sits_at_downsampling_rates(rates: tuple[int, ...], first_names: set[str]) -> None:
    config = latent_config("latent_sr_tiny").unet
    assert config is not None
    with torch.device("meta"):
        unet = LatentUNet(dataclasses.replace(config, attention_resolutions=rates))
    found = {name.removesuffix(".qkv") for name, _ in unet.named_modules() if name.endswith(".qkv")}
    assert found == first_names
