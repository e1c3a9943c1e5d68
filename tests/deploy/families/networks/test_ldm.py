"""LDM-SR against diffusers' own classes with the same random weights: networks, pictures of its pipeline, both layouts.

Networks are held to 1e-4, pictures to one level of 255 wherever both chose the same codes. Codes may differ only where
the two distances differ by less than 1e-4 of themselves, for at most one pixel of the latent in a thousand.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deploy import Bundle, Upscaler, load_checkpoint
from deploy.errors import SizeError
from deploy.export.export import export_bundle
from deploy.families.ldm.config import LdmConfig
from deploy.families.ldm.model import SAMPLING, VALUES, published_timesteps
from deploy.families.ldm.network import LdmNetwork
from deploy.images.values import network_from_pixels, pixels_from_network
from deploy.sampling.plan import PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from tests.ldm_models import FULL, SCHEDULER, SMALL, networks, our_network, save_compvis, save_folder

TOLERANCE = 1e-4
YAML = {
    "model": {
        "params": {
            "linear_start": 0.0015,
            "linear_end": 0.0155,
            "timesteps": 1000,
            "image_size": 16,
            "unet_config": {"params": {"num_head_channels": 8, "norm_groups": 8, "image_size": 16}},
            "first_stage_config": {
                "params": {"embed_dim": 3, "n_embed": 64, "ddconfig": {"resolution": 64, "norm_groups": 8}}
            },
        }
    }
}


def pipeline_of(unet: Any, first_stage: Any) -> Any:
    """The pipeline of diffusers with the published scheduler."""
    from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion_superresolution as module
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler = DDIMScheduler(**{name: value for name, value in SCHEDULER.items() if not name.startswith("_")})
    pipeline = module.LDMSuperResolutionPipeline(first_stage, unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check_networks(config: LdmConfig, unet: Any, first_stage: Any, network: Any, latent: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(1)
    z, lr = torch.randn(2, 3, *latent, generator=rng), torch.rand(2, 3, *latent, generator=rng) * 2 - 1
    image = torch.rand(1, 3, 2 * config.scale * latent[0], config.scale * latent[1], generator=rng)
    with torch.inference_mode():
        for timestep in (1, 731):
            expected = unet(torch.cat([z, lr], dim=1), timestep).sample
            for given in (timestep, torch.tensor(timestep), torch.full((2,), timestep)):
                assert (network.denoise(z, lr, given) - expected).abs().max() < TOLERANCE
        assert not different_codes(network, z, first_stage, z)
        assert (network.decode(z) - first_stage.decode(z).sample).abs().max() < TOLERANCE
        assert (network.encode(image) - first_stage.encode(image).latents).abs().max() < TOLERANCE


def different_codes(network: Any, ours: Tensor, first_stage: Any, theirs: Tensor) -> int:
    """Pixels of the latent for which another code was chosen, of which each must be a near tie."""
    codebook = network.first_stage_model.quantize
    pixels = [latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1]) for latent in (ours, theirs)]
    mine = codebook.indices(pixels[0])
    other = first_stage.quantize(theirs)[2][2]
    chosen = (mine != other).nonzero().flatten()
    vectors = codebook.embedding.weight
    for pixel in chosen:
        near, far = ((pixels[0][pixel] - vectors[index[pixel]]).norm() for index in (mine, other))
        assert abs(far - near) < 1e-4 * far
    assert len(chosen) <= len(mine) / 1000
    return len(chosen)


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any, LdmNetwork]:
    unet, first_stage = networks(SMALL)
    return unet, first_stage, our_network(SMALL, unet, first_stage)


def test_every_network_computes_what_diffusers_does(small: tuple[Any, Any, LdmNetwork]) -> None:
    check_networks(SMALL, *small, (16, 24))


def test_sizes_that_do_not_fit_together_are_refused(small: tuple[Any, Any, LdmNetwork]) -> None:
    with pytest.raises(SizeError, match=r"Cannot denoise a latent of 6x4 beside a picture of 6x4: .* divide by 4"):
        small[2].denoise(torch.zeros(1, 3, 4, 6), torch.zeros(1, 3, 4, 6), torch.zeros(1))


def test_both_layouts_give_the_same_bundle_and_the_pictures_of_the_pipeline(
    tmp_path: Path, small: tuple[Any, Any, LdmNetwork]
) -> None:
    unet, first_stage, network = small
    folder = load_checkpoint(save_folder(tmp_path / "folder", unet, first_stage))
    file = load_checkpoint(save_compvis(tmp_path / "ldm.ckpt", folder.network), config=YAML)
    averaged = load_checkpoint(tmp_path / "ldm.ckpt", config=YAML, weights="ema").network
    assert torch.equal(averaged.model.diffusion_model.out[2].bias, network.model.diffusion_model.out[2].bias + 1)
    assert folder.config == file.config == SMALL and folder.schedule == file.schedule
    bundles = [export_bundle(checkpoint, tmp_path / f"{checkpoint.format}.bundle") for checkpoint in (folder, file)]
    graphs = [bundle.manifest.graphs for bundle in bundles]
    assert graphs[0] == graphs[1]  # files are named by their content

    pixels = np.random.default_rng(5).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    latents = torch.randn((1, 3, 32, 64), generator=torch.Generator().manual_seed(3))
    finished: list[Tensor] = []
    decode = first_stage.decode
    first_stage.decode = lambda z: (finished.append(z), decode(z))[1]
    try:
        picture = pipeline_of(unet, first_stage)(
            Image.fromarray(pixels), num_inference_steps=10, generator=torch.Generator().manual_seed(3)
        ).images[0]
    finally:
        del first_stage.decode
    with Upscaler(Bundle.open(bundles[0].path), "onnxruntime-cpu", threads=1) as upscaler:
        ours = upscaler.upscale(
            pixels, scale=4.0, equation="ddim", steps=10, published=True, noise=lambda *_: latents.numpy()
        )
    assert not different_codes(network, finished[0], first_stage, finished[0])
    # The seed is one for which no pixel lies between two codes: both chose the same ones everywhere.
    assert np.abs(np.asarray(picture).astype(int) - ours).max() <= 1
    assert len(np.unique(ours)) > 100


@pytest.mark.slow
def test_the_published_size_computes_what_diffusers_does() -> None:
    unet, first_stage = networks(FULL)
    network = our_network(FULL, unet, first_stage)
    check_networks(FULL, unet, first_stage, network, (16, 8))
    pixels = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    picture = pipeline_of(unet, first_stage)(
        Image.fromarray(pixels), num_inference_steps=4, generator=torch.Generator().manual_seed(3)
    ).images[0]
    plan = make_plan(
        NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155),
        PlanSettings(equation="ddim", steps=4, published=True),
        rules=SAMPLING,
    )
    assert [row.timestep for row in plan.rows] == [751, 501, 251, 1]
    z = torch.randn((1, 3, 32, 32), generator=torch.Generator().manual_seed(3))
    lr = torch.from_numpy(network_from_pixels(pixels[None], VALUES))
    with torch.inference_mode():
        for row in plan.rows:
            noise = network.denoise(z, lr, torch.tensor([row.timestep]))
            z = row.x * z + row.x0[0] * (z - row.sigma * noise) / row.noise_level
        ours = pixels_from_network(network.decode(z).numpy(), VALUES)[0]
    assert np.abs(np.asarray(picture).astype(int) - ours).max() <= 1


def test_the_published_grid() -> None:
    assert published_timesteps(1000, 4) == [751, 501, 251, 1, 0]
