"""IDM: an EDSR-style encoder makes a condition, an SR3-style U-Net with implicit layers predicts the noise.

Gao et al., "Implicit Diffusion Models for Continuous Super-Resolution", CVPR 2023. The parameter names are
those of the published checkpoints.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from deploy.families.cases import Trial
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.layers import Blur, EqualConv2d, EqualLinear, FusedLeakyReLU, ImplicitLayer
from deploy.families.pixel_unet.layers import AttentionResnetBlock, Block, module_of, noise_level_mlp
from deploy.families.pixel_unet.layout import Layer, down_layers, mid_layers, up_layers
from deploy.families.published import tensors_of
from deploy.images.coordinates import resize_index
from engines.arrays import Array


class EncoderBlock(nn.Module):
    """Residual block without normalisation: convolution, ReLU, convolution, scaled, plus the input."""

    def __init__(self, features: int, res_scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(features, features, 3, padding=1),
        )
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.body(x)
        return h * self.res_scale + x


class Encoder(nn.Module):
    """(B, 3, h, w) low resolution -> (B, 3, H, W) condition: EDSR body, nearest resize, one convolution."""

    def __init__(self, config: IdmConfig) -> None:
        super().__init__()
        features = config.n_feats
        self.head = nn.Sequential(nn.Conv2d(config.out_channel, features, 3, padding=1))
        blocks: list[nn.Module] = [EncoderBlock(features, config.res_scale) for _ in range(config.n_resblocks)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(features, features, 3, padding=1))
        self.tail = nn.Sequential(nn.Conv2d(features, config.out_channel, 3, padding=1))

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x = self.head(lr)
        x = self.body(x) + x
        rows, columns = (torch.from_numpy(resize_index(n, m)) for n, m in zip(lr.shape[2:], size, strict=True))
        # The float32 index rule, not exact arithmetic (IDM quirk 13).
        x = x[:, :, rows.to(x.device)][:, :, :, columns.to(x.device)]
        return self.tail(x)


class Unet(nn.Module):
    """Predicts the noise in x_t. Level k works at ceil(size / 2^k); each implicit layer leads one level up."""

    def __init__(self, config: IdmConfig) -> None:
        super().__init__()
        inner = config.inner_channel
        self.noise_level_mlp = noise_level_mlp(inner)
        self._build_condition(config)
        first = nn.Conv2d(config.in_channel, inner, 3, padding=1)
        self.downs = nn.ModuleList([first, *(_module(layer, config) for layer in down_layers(config))])
        self.mid = nn.ModuleList(_module(layer, config) for layer in mid_layers(config))
        self.ups = nn.ModuleList(_module(layer, config) for layer in up_layers(config))
        self.final_conv = Block(config.level_channels[0], config.out_channel, config.norm_groups)

    def _build_condition(self, config: IdmConfig) -> None:
        """Shift map k comes from the condition blurred and halved k times, scales from the scaling factor.

        The published network also stores one more halving and scale and shift number 0, which it computes and
        drops (IDM quirk 3).
        """
        channels = config.level_channels
        before = (config.inner_channel, *channels[:-1])
        levels = range(1, config.levels)
        self.conv_body_first = nn.Sequential(
            EqualConv2d(config.out_channel, config.inner_channel, bias=False),
            FusedLeakyReLU(config.inner_channel),
        )
        self.conv_body_down = nn.ModuleList(
            nn.Sequential(
                Blur(), EqualConv2d(before[k], channels[k], stride=2, bias=False), FusedLeakyReLU(channels[k])
            )
            for k in range(config.levels - 1)
        )
        self.condition_shift = nn.ModuleDict(
            {str(k): nn.Sequential(EqualConv2d(before[k], channels[k], bias=True)) for k in levels}
        )
        self.condition_scale1 = nn.ModuleDict({str(k): EqualLinear(1, channels[k], bias=1.0) for k in levels})
        self.condition_scale2 = nn.ModuleDict({str(k): EqualLinear(1, channels[k], bias=1.0) for k in levels})

    def shift_maps(self, cond: Tensor) -> dict[int, Tensor]:
        """Shift map of every level k = 1, 2, ..: (B, C_k, ceil(H/2^k), ceil(W/2^k))."""
        x = self.conv_body_first(cond)
        shifts = {}
        for level, down in enumerate(self.conv_body_down, start=1):
            x = down(x)
            shifts[level] = self.condition_shift[str(level)](x)
        return shifts

    def forward(self, x: Tensor, cond: Tensor, scaler: Tensor, noise_level: Tensor) -> Tensor:
        embedding = self.noise_level_mlp(noise_level)
        shifts = self.shift_maps(cond)
        h = torch.cat([cond, x], dim=1)
        skips = []
        for layer in self.downs:
            h = layer(h, embedding) if isinstance(layer, AttentionResnetBlock) else layer(h)
            skips.append(h)
        for layer in self.mid:
            h = layer(h, embedding)
        level = len(self.conv_body_down)
        for layer in self.ups:
            if isinstance(layer, ImplicitLayer):
                scale1, scale2 = self.condition_scale1[str(level)], self.condition_scale2[str(level)]
                h = layer(h, scale1(scaler), scale2(scaler), shifts[level], tuple(skips[-1].shape[2:]))
                level -= 1
            else:
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
        return self.final_conv(h)


class IdmNetwork(nn.Module):
    """The two networks of an IDM checkpoint. Images are in [-1, 1]; sizes are (height, width)."""

    def __init__(self, config: IdmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.denoise_fn = Unet(config)

    def encode(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """The condition (B, 3, H, W) for the low-resolution images (B, 3, h, w)."""
        return self.encoder(lr, size)

    def denoise(self, x: Tensor, cond: Tensor, scaler: Tensor, noise_level: Tensor) -> Tensor:
        """The noise predicted in x (B, 3, H, W); scaler and noise_level (sqrt of alpha_bar) have shape (B, 1)."""
        return self.denoise_fn(x, cond, scaler, noise_level)


def unused_shapes(config: IdmConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything that published checkpoints store and no output depends on (IDM quirk 3)."""
    channels = config.level_channels
    before = (config.inner_channel, *channels[:-1])
    last = config.levels - 1
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("sub_mean", "add_mean"):
        shapes |= {f"encoder.{name}.weight": (3, 3, 1, 1), f"encoder.{name}.bias": (3,)}
    widths = (config.n_feats + 2, 256, 256, 256, 256, 3)
    for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
        shapes |= {
            f"imnet.layers.{2 * layer}.weight": (fan_out, fan_in),
            f"imnet.layers.{2 * layer}.bias": (fan_out,),
        }
    unet = {
        f"conv_body_down.{last}.1.weight": (channels[last], before[last], 3, 3),
        f"conv_body_down.{last}.2.bias": (channels[last],),
        "condition_shift.0.0.weight": (channels[0], config.inner_channel, 3, 3),
        "condition_shift.0.0.bias": (channels[0],),
        "final_down1.0.weight": (512, 512, 3, 3),
        "final_down1.1.bias": (512,),
        "final_down2.1.weight": (256, 512, 3, 3),
        "final_down2.2.bias": (256,),
        "final_linear.weight": (2048, 1024),
        "final_linear.bias": (2048,),
        "final_styleconv.0.weight": (512, 512, 3, 3),
        "final_styleconv.1.bias": (512,),
    }
    for name in ("condition_scale1", "condition_scale2"):
        unet |= {f"{name}.0.weight": (channels[0], 1), f"{name}.0.bias": (channels[0],)}
    for implicit in (layer for layer in up_layers(config) if layer.kind == "doubling"):
        style, width = f"{implicit.name}.style", implicit.channels_in
        unet |= {
            f"{style}.weight": (1,),
            f"{style}.modulated_conv.weight": (1, width, width, 3, 3),
            f"{style}.modulated_conv.modulation.weight": (width, 512),
            f"{style}.modulated_conv.modulation.bias": (width,),
        }
    return shapes | {f"denoise_fn.{name}": shape for name, shape in unet.items()}


def _module(layer: Layer, config: IdmConfig) -> nn.Module:
    """The module that a layer of the U-Net is."""
    if layer.kind == "doubling":
        return ImplicitLayer(layer.channels_in, config.implicit_hidden)
    return module_of(layer, config)


class PublishedIdm:
    """IDM: the encoder has run, each step evaluates the whole U-Net, and its state is the picture."""

    def __init__(self, network: Any, trial: Trial) -> None:
        self._network = network
        self._feeds = tensors_of(trial)
        self._feeds["noise_level"] = self._feeds["noise_level"].expand(len(self._feeds["x"]), 1)
        with torch.inference_mode():
            self._cond = network.encode(self._feeds["lr"], trial.size)

    @torch.inference_mode()
    def step(self) -> Tensor:
        """The predicted noise."""
        feeds = self._feeds
        return self._network.denoise(feeds["x"], self._cond, feeds["scaler"], feeds["noise_level"])

    def finish(self) -> None:
        """Nothing follows."""

    def answers(self) -> dict[str, Array]:
        """The predicted noise."""
        return {"noise": self.step().numpy()}
