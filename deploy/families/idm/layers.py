"""Building blocks of the conditioning branch and of the implicit layers, with the published parameter names.

Shapes are (batch, channels, height, width).
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
SCALE_EPSILON = 1e-8
"""Added under the root that normalises the implicit layers' scales; matters only for scales near 1e-4."""
BLUR_KERNEL = ((1.0, 3.0, 1.0), (3.0, 9.0, 3.0), (1.0, 3.0, 1.0))
"""Outer product of (1, 3, 1); divided by its sum 25 where it is used."""


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
