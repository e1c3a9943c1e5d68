"""The published networks with the same parameters and results, computed in a way that trains faster.

`quicken(network)` exchanges the classes of some modules for subclasses that differ in `forward` only:

* IDM's implicit layers fold their two linear layers into one matrix, apply it before the look-up (both are
  linear, so the order does not matter) and look up by multiplying with a 0/1 matrix, whose gradient is a
  multiplication again; exact doubling, the usual case, is a plain repetition.
* The blur is written as sums of shifted pictures, and index tables stay on the device.
* What is sensitive to rounding stays in float32 under bfloat16 autocast: the noise level's embedding and the
  last convolution, whose error would be multiplied by up to 150 in the estimate of the picture.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.families.idm.layers import Blur, ImplicitLayer
from deploy.families.idm.network import Encoder, IdmNetwork
from deploy.families.pixel_unet.layers import Block, FeatureWiseAffine
from deploy.images.coordinates import AxisLookup, axis_lookup, resize_index

Axis = tuple[Tensor, Tensor]
"""A 0/1 matrix (m, n) that looks up, and the relative coordinates (m,)."""


class QuickImplicitLayer(ImplicitLayer):
    """Blend, one matrix at the low resolution, look up, add the coordinates' share."""

    def forward(self, x: Tensor, scale1: Tensor, scale2: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
        y: Tensor = self.style(x, scale1, scale2, shift)
        first, second = (layer for layer in self.imnet if isinstance(layer, nn.Linear))
        matrix = second.weight @ first.weight
        bias = second.weight @ first.bias + second.bias
        channels = y.shape[1]
        low = functional.conv2d(y, matrix[:, :channels, None, None], bias)
        if size == (2 * y.shape[2], 2 * y.shape[3]):
            found = functional.interpolate(low, scale_factor=2.0, mode="nearest")
            down, right = (_doubling_relative(count, y) for count in size)
        else:
            rows, columns = (_axis(n, m, y.device) for n, m in zip(y.shape[2:], size, strict=True))
            found = looked_up(low, rows[0], columns[0])
            down, right = rows[1], columns[1]
        along = matrix[:, channels, None] * down
        across = matrix[:, channels + 1, None] * right
        return found + (along[:, :, None] + across[:, None, :]).to(found.dtype)


class QuickBlur(Blur):
    """The (1, 3, 1) low-pass by (1, 3, 1), zero padding, as sums of shifted pictures."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = functional.pad(x, (1, 1, 1, 1))
        rows = padded[:, :, :height] + 3 * padded[:, :, 1 : height + 1] + padded[:, :, 2:]
        out: Tensor = rows[..., :width] + 3 * rows[..., 1 : width + 1] + rows[..., 2:]
        return out / 25


class QuickEncoder(Encoder):
    """The encoder with its index tables kept on the device."""

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.head(lr)
        x = self.body(x) + x
        rows, columns = (resize_table(n, m, x.device) for n, m in zip(lr.shape[2:], size, strict=True))
        out: Tensor = self.tail(x.index_select(2, rows).index_select(3, columns))
        return out


class PreciseAffine(FeatureWiseAffine):
    """The noise level's shift computed in float32 whatever the precision around it."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            shift: Tensor = self.noise_func(embedding.float())
        return x + shift[:, :, None, None].to(x.dtype)


class PreciseSequential(nn.Sequential):
    """Modules in turn in float32 whatever the precision around them."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        with torch.autocast(x.device.type, enabled=False):
            for module in self:
                x = module(x)
        return x


class PreciseBlock(Block):
    """GroupNorm, SiLU and convolution in float32 whatever the precision around them."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


QUICK: dict[type[nn.Module], type[nn.Module]] = {
    ImplicitLayer: QuickImplicitLayer,
    Blur: QuickBlur,
    Encoder: QuickEncoder,
    FeatureWiseAffine: PreciseAffine,
}


def quicken(network: IdmNetwork) -> IdmNetwork:
    """The same network object with the quick modules; parameters and their names stay."""
    for module in network.modules():
        quick = QUICK.get(type(module))
        if quick is not None:
            module.__class__ = quick
    network.denoise_fn.noise_level_mlp.__class__ = PreciseSequential
    network.denoise_fn.final_conv.__class__ = PreciseBlock
    return network


def looked_up(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, C, h, w) looked up by 0/1 matrices (H, h) and (W, w) -> (B, C, H, W)."""
    wide = x @ columns.to(x.dtype).T
    return rows.to(x.dtype) @ wide


def look_up_matrix(lookup: AxisLookup, count: int, device: torch.device) -> Axis:
    """The 0/1 matrix (m, count) and relative coordinates (m,) of a look-up along one axis."""
    matrix = np.zeros((len(lookup.index), count), dtype=np.float32)
    matrix[np.arange(len(lookup.index)), lookup.index] = 1.0
    return torch.from_numpy(matrix).to(device), torch.from_numpy(lookup.relative).to(device)


def _doubling_relative(count: int, like: Tensor) -> Tensor:
    """Relative coordinates when every pixel becomes two: -0.5, 0.5, -0.5, .."""
    return torch.arange(count, device=like.device) % 2 - 0.5


@lru_cache(maxsize=1024)
def _axis(count_in: int, count_out: int, device: torch.device) -> Axis:
    return look_up_matrix(axis_lookup(count_in, count_out), count_in, device)


@lru_cache(maxsize=1024)
def resize_table(count_in: int, count_out: int, device: torch.device) -> Tensor:
    """The nearest resize's source indices on a device."""
    return torch.from_numpy(resize_index(count_in, count_out)).to(device)
