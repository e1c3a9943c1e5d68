"""SR3: the U-Net alone; its condition is the enlarged picture, joined to the noisy one.

The parameter names are those of the published checkpoints.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from deploy.errors import SizeError
from deploy.families.cases import Trial
from deploy.families.pixel_unet.layers import AttentionResnetBlock, Block, module_of, noise_level_mlp
from deploy.families.pixel_unet.layout import Layer, down_layers, mid_layers, up_layers
from deploy.families.published import tensors_of
from deploy.families.sr3.condition import condition_of_pixels
from deploy.families.sr3.config import Sr3Config
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from engines.arrays import Array


class Doubling(nn.Module):
    """Every pixel twice in both directions, cut to the size of the next level, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        doubled = functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(doubled[:, :, : size[0], : size[1]])


class Unet(nn.Module):
    """Predicts the noise in x_t. Level k works at ceil(size / 2^k)."""

    def __init__(self, config: Sr3Config) -> None:
        super().__init__()
        inner = config.inner_channel
        self.noise_level_mlp = noise_level_mlp(inner)
        first = nn.Conv2d(config.in_channel, inner, 3, padding=1)
        self.downs = nn.ModuleList([first, *(_module(layer, config) for layer in down_layers(config))])
        self.mid = nn.ModuleList(_module(layer, config) for layer in mid_layers(config))
        self.ups = nn.ModuleList(_module(layer, config) for layer in up_layers(config))
        self.final_conv = Block(config.level_channels[0], config.out_channel, config.norm_groups)

    def forward(self, x: Tensor, cond: Tensor, noise_level: Tensor) -> Tensor:
        embedding = self.noise_level_mlp(noise_level)
        h = torch.cat([cond, x], dim=1)
        skips = []
        for layer in self.downs:
            h = layer(h, embedding) if isinstance(layer, AttentionResnetBlock) else layer(h)
            skips.append(h)
        for layer in self.mid:
            h = layer(h, embedding)
        for layer in self.ups:
            if isinstance(layer, Doubling):
                h = layer(h, tuple(skips[-1].shape[2:]))
            else:
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.final_conv(h)


class Sr3Network(nn.Module):
    """The network of an SR3 checkpoint. Images are in [-1, 1]; sizes are (height, width), any at all."""

    def __init__(self, config: Sr3Config) -> None:
        super().__init__()
        self.config = config
        self.denoise_fn = Unet(config)

    def condition(self, lr_uint8: ArrayLike, size: tuple[int, int]) -> Tensor:
        """The condition (B, 3, H, W) of 8-bit pictures (B, h, w, 3), or of a single one without the batch."""
        pixels = np.asarray(lr_uint8)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
            raise SizeError(
                f"The condition is made of 8-bit pictures (batch, height, width, 3), found {pixels.dtype} of shape "
                f"{pixels.shape}."
            )
        pixels = np.moveaxis(pixels.reshape(-1, *pixels.shape[-3:]), -1, 1)
        whole = Size(*size)
        return torch.from_numpy(condition_of_pixels(pixels, whole, Window.whole(whole)))

    def denoise(self, x: Tensor, cond: Tensor, noise_level: Tensor) -> Tensor:
        """The noise predicted in x (B, 3, H, W); noise_level, sqrt of alpha_bar, is (B, 1), (B,) or one for all."""
        return self.denoise_fn(x, cond, noise_level.reshape(-1, 1).expand(len(x), 1))


def _module(layer: Layer, config: Sr3Config) -> nn.Module:
    return Doubling(layer.channels_in) if layer.kind == "doubling" else module_of(layer, config)


class PublishedSr3:
    """SR3: each step evaluates the whole U-Net on the condition and the state, which is the picture."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._feeds = tensors_of(trial)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        feeds = self._feeds
        return self._network.denoise(feeds["x"], feeds["cond"], feeds["noise_level"])

    def finish(self) -> None:
        """Nothing follows."""

    def answers(self) -> dict[str, Array]:
        """The predicted noise."""
        return {"noise": self.step().numpy()}
