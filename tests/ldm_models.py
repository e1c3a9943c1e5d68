"""LDM-SR, small and as published: configurations, networks of diffusers, and both kinds of checkpoint."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from deploy.families.compvis.config import UNetConfig
from deploy.families.detection import Settings
from deploy.families.ldm.config import LdmConfig, QuantizedConfig
from deploy.families.ldm.diffusers_folder import assembled
from deploy.families.ldm.network import LdmNetwork
from deploy.families.ldm.peer import arguments
from deploy.sampling.schedule import NoiseSchedule

SMALL = LdmConfig(
    image_size=16,
    unet=UNetConfig(
        image_size=16,
        in_channels=6,
        out_channels=3,
        model_channels=16,
        attention_resolutions=(4,),
        num_res_blocks=1,
        channel_mult=(1, 2, 3),
        num_head_channels=8,
        norm_groups=8,
    ),
    first_stage=QuantizedConfig(
        embed_dim=3,
        n_embed=64,
        z_channels=3,
        resolution=64,
        ch=16,
        ch_mult=(1, 1, 2),
        num_res_blocks=1,
        norm_groups=8,
    ),
)

FULL = LdmConfig(
    unet=UNetConfig(
        image_size=64,
        in_channels=6,
        out_channels=3,
        model_channels=160,
        attention_resolutions=(8,),
        num_res_blocks=2,
        channel_mult=(1, 2, 2, 4),
    ),
    first_stage=QuantizedConfig(
        embed_dim=3, n_embed=8192, z_channels=3, resolution=256, ch=128, ch_mult=(1, 2, 4), num_res_blocks=2
    ),
)
"""As CompVis/latent-diffusion's models/ldm/bsr_sr/config.yaml has it (which lists the rate 16 besides, of no level)."""

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.8.0",
    "beta_end": 0.0155,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}


def networks(config: LdmConfig, seed: int = 0) -> tuple[Any, Any]:
    """The U-Net and the auto-encoder of diffusers with random weights; latents and codes are about one in size."""
    from diffusers.models.autoencoders.vq_model import VQModel
    from diffusers.models.unets.unet_2d import UNet2DModel

    unet_arguments, first_arguments = arguments(config)
    torch.manual_seed(seed)
    unet, first_stage = UNet2DModel(**unet_arguments), VQModel(**first_arguments)
    for network in (unet, first_stage):
        for name, parameter in network.named_parameters():
            if "norm" in name:  # not ones and zeros, which would hide a mistaken name
                torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.1)
    torch.nn.init.normal_(first_stage.quantize.embedding.weight)
    return unet.eval().requires_grad_(False), first_stage.eval().requires_grad_(False)


def save_folder(folder: Path, unet: Any, first_stage: Any, **saving: Any) -> Path:
    """The pipeline's folder, as its save_pretrained writes it; `saving` is passed on for each network."""
    folder.mkdir(parents=True, exist_ok=True)
    unet.save_pretrained(folder / "unet", **saving)
    first_stage.save_pretrained(folder / "vqvae", **saving)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    index = {
        "_class_name": "LDMSuperResolutionPipeline",
        "_diffusers_version": "0.8.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
        "vqvae": ["diffusers", "VQModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def save_compvis(path: Path, network: Any) -> Path:
    """A checkpoint as CompVis' training saves it, of the tensors of our network: with tables, and a moving average."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items() if name != "scale_factor"}
    for name, tensor in list(state.items()):
        if name.startswith("model."):
            state["model_ema." + name.removeprefix("model.").replace(".", "")] = tensor + 1
    schedule = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155)
    state |= {name: torch.tensor(table).float() for name, table in schedule.training_tables().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def our_network(config: LdmConfig, unet: Any, first_stage: Any) -> LdmNetwork:
    """Our network with the tensors of diffusers' two, as a folder of them would give it."""
    both = {"unet": unet, "vqvae": first_stage}
    stored = {f"{part}.{name}": value for part, network in both.items() for name, value in network.state_dict().items()}
    settings = Settings(source="config", label="", values={"unet.num_head_channels": config.unet.num_head_channels})
    recipes = assembled({name: tuple(value.shape) for name, value in stored.items()}, settings)
    with torch.device("meta"):
        network = LdmNetwork(config)
    arrays = {
        name: recipe.make([stored[piece].numpy() for piece in recipe.pieces]).reshape(recipe.shape)
        for name, recipe in recipes.items()
    }
    network.load_state_dict(
        {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False, assign=True
    )
    return network.eval().requires_grad_(False)
