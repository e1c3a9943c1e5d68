"""Building blocks of the U-Net, with the published parameter names.

Shapes are (batch, channels, height, width). Module names such as `block.3` come from the checkpoints and
must not change: index 0 is the normalisation, 1 the activation, 2 a dropout that is inactive here.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.families.pixel_unet.config import UnetConfig
from deploy.families.pixel_unet.layout import Layer

NORM_EPSILON = 1e-5
"""Of every group normalisation."""


class NoiseLevelEncoding(nn.Module):
    """(B, 1) noise levels -> (B, C): sin(level * 10000^(-k/(C/2))) for k = 0..C/2-1, then cos of the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, noise_level: Tensor) -> Tensor:
        half = self.channels // 2
        step = torch.arange(half, dtype=noise_level.dtype, device=noise_level.device) / half
        angle = noise_level * torch.exp(-math.log(1e4) * step)
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


class FeatureWiseAffine(nn.Module):
    """Adds a linear function of the noise-level embedding to every pixel of a feature map."""

    def __init__(self, embedding: int, channels: int) -> None:
        super().__init__()
        self.noise_func = nn.Sequential(nn.Linear(embedding, channels))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift: Tensor = self.noise_func(embedding)
        return x + shift[:, :, None, None]


class Block(nn.Module):
    """GroupNorm, SiLU, 3x3 convolution."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.GroupNorm(groups, channels_in, eps=NORM_EPSILON),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class ResnetBlock(nn.Module):
    """Two blocks with the noise-level shift between them, beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.noise_func = FeatureWiseAffine(embedding, channels_out)
        self.block1 = Block(channels_in, channels_out, groups)
        self.block2 = Block(channels_out, channels_out, groups)
        self.res_conv = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.noise_func(self.block1(x), embedding)
        shortcut: Tensor = self.res_conv(x)
        out: Tensor = self.block2(h)
        return out + shortcut


class SelfAttention(nn.Module):
    """One-head attention over all pixels; logits are divided by sqrt(channels), qkv has no bias."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv: Tensor = self.qkv(self.norm(x))
        q, k, v = (part.flatten(2).transpose(1, 2)[:, None] for part in qkv.chunk(3, dim=1))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed[:, 0].transpose(1, 2).reshape(batch, channels, height, width)
        out: Tensor = self.out(mixed)
        return out + x


class AttentionResnetBlock(nn.Module):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        self.res_block = ResnetBlock(channels_in, channels_out, embedding, groups)
        self.attn = SelfAttention(channels_out, groups) if attention else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h: Tensor = self.res_block(x, embedding)
        return h if self.attn is None else self.attn(h)


class Downsample(nn.Module):
    """Halves the size, rounding up, by a 3x3 convolution with stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def noise_level_mlp(channels: int) -> nn.Sequential:
    """(B, 1) noise levels -> their embedding (B, channels)."""
    return nn.Sequential(
        NoiseLevelEncoding(channels), nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, channels)
    )


def module_of(layer: Layer, config: UnetConfig) -> nn.Module:
    """The module of a block or a halving; what doubles the size is the family's own."""
    if layer.kind == "halving":
        return Downsample(layer.channels_in)
    channels_in = layer.channels_in + layer.skip
    groups, attention = config.norm_groups, layer.attention
    return AttentionResnetBlock(channels_in, layer.channels_out, config.inner_channel, groups, attention=attention)
