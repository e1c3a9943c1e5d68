"""Building blocks of the SR3-style U-Net and of the implicit layers, with the published parameter names.

Shapes are (batch, channels, height, width). Module names such as `block.3` come from the checkpoints and
must not change: index 0 is the normalisation, 1 the activation, 2 a dropout that is inactive here.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from deploy.images.coordinates import axis_lookup

LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2.0)
NORM_EPSILON = 1e-5
"""Of every group normalisation."""
SCALE_EPSILON = 1e-8
"""Added under the root that normalises the implicit layers' scales; matters only for scales near 1e-4."""
BLUR_KERNEL = ((1.0, 3.0, 1.0), (3.0, 9.0, 3.0), (1.0, 3.0, 1.0))
"""Outer product of (1, 3, 1); divided by its sum 25 where it is used."""


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


class FusedLeakyReLU(nn.Module):
    """leaky_relu(x + bias, 0.2) * sqrt(2), the StyleGAN2 activation with its own bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x + self.bias[None, :, None, None], LEAKY_SLOPE) * LEAKY_GAIN


class EqualConv2d(nn.Module):
    """A convolution whose stored weight is multiplied by 1 / sqrt(fan_in) when it is used."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, equalised(self.weight), self.bias, stride=self.stride, padding=1)


class EqualLinear(nn.Module):
    """A linear layer whose stored weight is multiplied by 1 / sqrt(fan_in) when it is used."""

    def __init__(self, features_in: int, features_out: int, *, bias: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features_out, features_in))
        self.bias = nn.Parameter(torch.full((features_out,), bias))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, equalised(self.weight), self.bias)


def equalised(weight: Tensor) -> Tensor:
    """The weight as it is used: times 1 / sqrt(number of inputs of one output)."""
    return weight * (1.0 / math.sqrt(math.prod(weight.shape[1:])))


class Blur(nn.Module):
    """A fixed 3x3 low-pass per channel, zero padding. It has no entry in the checkpoints."""

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.tensor(BLUR_KERNEL, dtype=x.dtype, device=x.device) / 25.0
        channels = x.shape[1]
        return functional.conv2d(x, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)


class StyleBlend(nn.Module):
    """Blends features with LR features: leaky(x*s1*r + shift*s2*r + bias) with r = 1/sqrt(s1^2 + s2^2 + 1e-8).

    The published object also stores a modulated convolution and a weight that nothing uses (IDM quirk 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.activate = FusedLeakyReLU(channels)

    def forward(self, x: Tensor, scale1: Tensor, scale2: Tensor, shift: Tensor) -> Tensor:
        norm = torch.rsqrt(scale1**2 + scale2**2 + SCALE_EPSILON)
        return self.activate(x * _per_pixel(scale1 * norm) + shift * _per_pixel(scale2 * norm))


class ImplicitLayer(nn.Module):
    """IDM's implicit decoder at one level: blend, look up the nearest pixel, two linear layers.

    There is no activation between the two linear layers (IDM quirk 2): together they are one affine map, and
    the checkpoints depend on it. Cells and the local ensemble are off, so the area weight is 1 (quirk 4).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.style = StyleBlend(channels)
        self.imnet = nn.Sequential(nn.Linear(channels + 2, hidden), nn.Linear(hidden, channels))

    def forward(self, x: Tensor, scale1: Tensor, scale2: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
        y: Tensor = self.style(x, scale1, scale2, shift)
        rows, columns = (axis_lookup(n, m) for n, m in zip(y.shape[2:], size, strict=True))
        row_index, column_index = _tensor(rows.index, y), _tensor(columns.index, y)
        features = y[:, :, row_index][:, :, :, column_index]
        batch = y.shape[0]
        down = _tensor(rows.relative, y)[None, None, :, None].expand(batch, 1, *size)
        right = _tensor(columns.relative, y)[None, None, None, :].expand(batch, 1, *size)
        queries = torch.cat([features, down, right], dim=1).permute(0, 2, 3, 1)
        answers: Tensor = self.imnet(queries)
        # The official network takes the width for the height here, which works for squares only (quirk 1).
        return answers.permute(0, 3, 1, 2)


def _per_pixel(scale: Tensor) -> Tensor:
    return scale[:, :, None, None]


def _tensor(table: NDArray[np.generic], like: Tensor) -> Tensor:
    return torch.from_numpy(table).to(like.device)
