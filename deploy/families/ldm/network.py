"""LDM-SR under the names its training code saves: a U-Net that sees latent and small picture, and an auto-encoder.

The latent has the size of the low-resolution picture, which stands beside it as it is. A finished latent is moved to
the nearest entries of a codebook, pixel by pixel, and decoded. Shapes are (batch, channels, height, width), pictures in
[-1, 1].
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.errors import SizeError
from deploy.families.cases import Trial
from deploy.families.compvis.autoencoder import NORM_EPSILON, Encoder, Level, Middle
from deploy.families.compvis.unet import LatentUNet, Upsample
from deploy.families.ldm.config import LdmConfig, QuantizedConfig
from deploy.families.published import tensors_of
from engines.arrays import Array

PIXELS_AT_ONCE = 1024
"""Latent pixels whose distances to all codes are in memory together: 32 MiB for 8192 codes."""


class DiffusionModel(nn.Module):
    """The level of nesting that the checkpoints have between the model and its U-Net."""

    def __init__(self, config: LdmConfig) -> None:
        super().__init__()
        self.diffusion_model = LatentUNet(config.unet, config.norm_epsilon)


class UpLevel(Level):
    """Residual blocks of one level, then doubling unless it is the finest."""

    def __init__(self, channels_in: int, channels: int, config: QuantizedConfig, level: int) -> None:
        attention = config.has_attention(level)
        super().__init__(channels_in, channels, config.num_res_blocks + 1, config.norm_groups, attention=attention)
        self.upsample = Upsample(channels) if level else None

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.upsample is None else self.upsample(x)


class Decoder(nn.Module):
    """Latent -> picture of `stride` times its size."""

    def __init__(self, config: QuantizedConfig) -> None:
        super().__init__()
        groups, channels = config.norm_groups, config.level_channels[-1]
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = Middle(channels, groups)
        parts = []
        for level in reversed(range(len(config.ch_mult))):
            parts.append(UpLevel(channels, config.level_channels[level], config, level))
            channels = config.level_channels[level]
        self.up = nn.ModuleList(reversed(parts))
        self.norm_out = nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
        self.conv_out = nn.Conv2d(channels, config.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h: Tensor = self.mid(self.conv_in(z))
        for part in reversed(list(self.up)):
            h = part(h)
        return self.conv_out(functional.silu(self.norm_out(h)))


class Codebook(nn.Module):
    """The vectors of which every quantized latent consists."""

    def __init__(self, count: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, length)

    def indices(self, vectors: Tensor) -> Tensor:
        """(N, length) -> (N,) numbers of the nearest vectors; of several, the first.

        The differences themselves are squared and summed: |z|^2 - 2ze + |e|^2 would lose the digits that decide.
        """
        codes = self.embedding.weight
        parts = []
        for part in torch.split(vectors, PIXELS_AT_ONCE):
            squares = [(part[:, axis, None] - codes[None, :, axis]).square() for axis in range(codes.shape[1])]
            total = squares[0]
            for square in squares[1:]:
                total = total + square
            parts.append(total.argmin(dim=1))
        return torch.cat(parts)

    def forward(self, z: Tensor) -> Tensor:
        vectors = z.permute(0, 2, 3, 1)
        chosen: Tensor = self.embedding(self.indices(vectors.reshape(-1, z.shape[1])))
        return chosen.reshape(vectors.shape).permute(0, 3, 1, 2)


class QuantizedAutoencoder(nn.Module):
    """The auto-encoder: encoder, codebook, decoder, and a 1x1 convolution on each side of the codebook."""

    def __init__(self, config: QuantizedConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.embed_dim, 1)
        self.quantize = Codebook(config.n_embed, config.embed_dim)
        self.post_quant_conv = nn.Conv2d(config.embed_dim, config.z_channels, 1)
        self.decoder = Decoder(config)


class LdmNetwork(nn.Module):
    """The whole model. The moving average of the U-Net (`model_ema.*`) is no part of it: the reader renames it."""

    scale_factor: Tensor

    def __init__(self, config: LdmConfig) -> None:
        super().__init__()
        self.config = config
        self.model = DiffusionModel(config)
        self.first_stage_model = QuantizedAutoencoder(config.first_stage)
        # 1 unless a training measured it; only the checkpoint knows. Not on "meta": files need not have it.
        self.register_buffer("scale_factor", torch.ones((), device="cpu"))

    def denoise(self, z: Tensor, lr: Tensor, timestep: Tensor | int) -> Tensor:
        """(B, latent channels, h, w), the low-resolution picture (B, 3, h, w), one timestep or (B,) -> the noise."""
        unet = self.model.diffusion_model
        stride, (height, width) = unet.config.stride, z.shape[2:]
        if height % stride or width % stride or lr.shape[2:] != z.shape[2:]:
            raise SizeError(
                f"Cannot denoise a latent of {width}x{height} beside a picture of {lr.shape[3]}x{lr.shape[2]}: both "
                f"need one size, whose sides divide by {stride}; pad the picture as `LdmConfig.padded` says."
            )
        timesteps = torch.as_tensor(timestep, device=z.device).reshape(-1).expand(z.shape[0])
        return unet(torch.cat([z, lr], dim=1), timesteps)

    def quantize(self, z: Tensor) -> Tensor:
        """A latent as the sampler leaves it -> the nearest vectors of the codebook."""
        return self.first_stage_model.quantize(z / self.scale_factor)

    def decode(self, z: Tensor) -> Tensor:
        """A latent as the sampler leaves it -> (B, 3, H, W) of `stride` times its size, not clamped."""
        first_stage = self.first_stage_model
        return first_stage.decoder(first_stage.post_quant_conv(self.quantize(z)))

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the latent as the sampler sees it, not quantized."""
        first_stage = self.first_stage_model
        return self.scale_factor * first_stage.quant_conv(first_stage.encoder(image))


class PublishedLdm:
    """The published network on one trial: after the last step the latent is quantized and decoded."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._feeds = tensors_of(trial)
        self._timestep = self._feeds["timestep"].long().expand(len(self._feeds["x"]))

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        return self._network.denoise(self._feeds["x"], self._feeds["lr"], self._timestep)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The decoded picture."""
        return self._network.decode(self._feeds["z"])

    @torch.inference_mode()
    def answers(self) -> dict[str, Array]:
        """The predicted noise, the decoded picture and the encoded one."""
        guess = self._network.encode(self._feeds["image"])
        return {"noise": self.step().numpy(), "picture": self.finish().numpy(), "guess": guess.numpy()}
