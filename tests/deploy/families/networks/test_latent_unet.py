"""The modules of the latent U-Net against the recordings of the official ones.

Tolerance 1e-4 as the recordings suggest: the official code differs from itself by up to 1e-5 between
convolution kernels, and every compared tensor is of order one.
"""

import dataclasses

import pytest
import torch
from torch import nn

from deploy.families.latent.unet import LatentUNet, timestep_embedding
from tests.latent_models import latent_config, latent_network
from tests.recordings import recorded_case, recording

TOLERANCE = 1e-4
UNET = "model.diffusion_model"


def module(name: str) -> nn.Module:
    return latent_network("latent_sr_tiny").get_submodule(f"{UNET}.{name}")


def assert_recorded(actual: torch.Tensor, expected: object) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=0.0, atol=TOLERANCE)


@pytest.mark.parametrize(("array", "channels"), [("sinusoid", 32), ("sinusoid_256", 256)])
def test_timestep_embedding_equals_the_recorded_one(array: str, channels: int) -> None:
    case = recorded_case("latent_modules", "time_embedding")
    embedding = timestep_embedding(torch.from_numpy(case["t"]), channels)
    # Same formula in the same precision; 1e-6 leaves room for another exp and cos.
    torch.testing.assert_close(embedding, torch.from_numpy(case[array]), rtol=0.0, atol=1e-6)


def test_timestep_embedding_by_hand() -> None:
    # half = 2: frequencies 1 and 1/100.
    embedding = timestep_embedding(torch.tensor([0, 50]), 4)
    expected = [[1.0, 1.0, 0.0, 0.0], [0.964966, 0.877583, -0.262375, 0.479426]]
    torch.testing.assert_close(embedding, torch.tensor(expected), rtol=0.0, atol=1e-5)


def test_embedding_network_equals_the_recorded_one() -> None:
    case = recorded_case("latent_modules", "time_embedding")
    unet = latent_network("latent_sr_tiny").model.diffusion_model
    assert_recorded(unet.embed(torch.from_numpy(case["t"])), case["out"])


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
    assert_recorded(module(name)(x, *extra), arrays["out"])


@pytest.mark.parametrize(
    ("case", "name"), [("unet_downsample", "input_blocks.2.0"), ("unet_upsample", "output_blocks.1.1")]
)
def test_resampling_equals_the_recorded_one(case: str, name: str) -> None:
    arrays = recorded_case("latent_modules", case)
    assert_recorded(module(name)(torch.from_numpy(arrays["x"])), arrays["out"])


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
