"""LDM-SR in diffusers, as people run it: the baseline of `bench` where that package is installed."""

from typing import Any

import torch
from torch import Tensor

from deploy.families.cases import Trial
from deploy.families.ldm.config import LdmConfig
from deploy.families.published import tensors_of
from engines.arrays import Array


def arguments(config: LdmConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """What diffusers' UNet2DModel and VQModel are made with for this configuration."""
    unet, first = config.unet, config.first_stage
    attended = [unet.has_attention(level) for level in range(len(unet.channel_mult))]
    unet_arguments = {
        "sample_size": unet.image_size,
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "block_out_channels": unet.level_channels,
        "layers_per_block": unet.num_res_blocks,
        "down_block_types": tuple("AttnDownBlock2D" if level else "DownBlock2D" for level in attended),
        "up_block_types": tuple("AttnUpBlock2D" if level else "UpBlock2D" for level in reversed(attended)),
        "attention_head_dim": unet.num_head_channels,
        "norm_num_groups": unet.norm_groups,
        "norm_eps": config.norm_epsilon,
    }
    attended = [first.has_attention(level) for level in range(len(first.ch_mult))]
    down, up = ("AttnDownEncoderBlock2D", "DownEncoderBlock2D"), ("AttnUpDecoderBlock2D", "UpDecoderBlock2D")
    first_arguments = {
        "in_channels": first.in_channels,
        "out_channels": first.out_ch,
        "block_out_channels": first.level_channels,
        "layers_per_block": first.num_res_blocks,
        "down_block_types": tuple(down[not level] for level in attended),
        "up_block_types": tuple(up[not level] for level in reversed(attended)),
        "latent_channels": first.z_channels,
        "sample_size": first.resolution,
        "num_vq_embeddings": first.n_embed,
        "norm_num_groups": first.norm_groups,
        "vq_embed_dim": first.embed_dim,
    }
    return unet_arguments, first_arguments


class DiffusersLdm:
    """The networks of diffusers on one trial, with random weights, as its pipeline calls them."""

    def __init__(self, network: Any, trial: Trial) -> None:
        from diffusers.models.autoencoders.vq_model import VQModel
        from diffusers.models.unets.unet_2d import UNet2DModel

        unet, first_stage = arguments(network.config)
        torch.manual_seed(0)
        self._unet: Any = UNet2DModel(**unet).eval().requires_grad_(False)
        self._first_stage: Any = VQModel(**first_stage).eval().requires_grad_(False)
        self._feeds = tensors_of(trial)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        x = torch.cat([self._feeds["x"], self._feeds["lr"]], dim=1)
        noise: Tensor = self._unet(x, int(self._feeds["timestep"][0])).sample
        return noise

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The decoded picture."""
        picture: Tensor = self._first_stage.decode(self._feeds["z"]).sample
        return picture

    def answers(self) -> dict[str, Array]:
        """Noise and picture."""
        return {"noise": self.step().numpy(), "picture": self.finish().numpy()}
