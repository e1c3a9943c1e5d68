"""IDM: an EDSR-style encoder makes a condition, an SR3-style U-Net with implicit layers predicts the noise.

Gao et al., "Implicit Diffusion Models for Continuous Super-Resolution", CVPR 2023. The parameter names are
those of the published checkpoints.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.layers import (
    AttentionResnetBlock,
    Block,
    Blur,
    Downsample,
    EqualConv2d,
    EqualLinear,
    FusedLeakyReLU,
    ImplicitLayer,
    NoiseLevelEncoding,
)
from deploy.images.coordinates import resize_index


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
        out: Tensor = self.tail(x)
        return out


class Unet(nn.Module):
    """Predicts the noise in x_t. Level k works at ceil(size / 2^k); each implicit layer leads one level up."""

    def __init__(self, config: IdmConfig) -> None:
        super().__init__()
        channels = config.level_channels
        inner, groups = config.inner_channel, config.norm_groups
        self.noise_level_mlp = nn.Sequential(
            NoiseLevelEncoding(inner), nn.Linear(inner, 4 * inner), nn.SiLU(), nn.Linear(4 * inner, inner)
        )
        self._build_condition(config)
        self.downs, skips = self._build_downs(config)
        deepest = channels[-1]
        self.mid = nn.ModuleList(
            AttentionResnetBlock(deepest, deepest, inner, groups, attention=attention) for attention in (True, False)
        )
        self.ups = self._build_ups(config, skips)
        self.final_conv = Block(channels[0], config.out_channel, groups)

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

    @staticmethod
    def _build_downs(config: IdmConfig) -> tuple[nn.ModuleList, list[int]]:
        """The way down, and the channels of every feature map that the way up will join."""
        current = config.inner_channel
        downs: list[nn.Module] = [nn.Conv2d(config.in_channel, current, 3, padding=1)]
        skips = [current]
        for level, channels in enumerate(config.level_channels):
            for _ in range(config.res_blocks):
                attention = level in config.attention_levels
                downs.append(
                    AttentionResnetBlock(
                        current, channels, config.inner_channel, config.norm_groups, attention=attention
                    )
                )
                current = channels
                skips.append(current)
            if level < config.levels - 1:
                downs.append(Downsample(current))
                skips.append(current)
        return nn.ModuleList(downs), skips

    @staticmethod
    def _build_ups(config: IdmConfig, skips: list[int]) -> nn.ModuleList:
        ups: list[nn.Module] = []
        left = list(skips)
        current = config.level_channels[-1]
        for level in reversed(range(config.levels)):
            channels = config.level_channels[level]
            for _ in range(config.res_blocks + 1):
                attention = level in config.attention_levels
                ups.append(
                    AttentionResnetBlock(
                        current + left.pop(),
                        channels,
                        config.inner_channel,
                        config.norm_groups,
                        attention=attention,
                    )
                )
                current = channels
            if level > 0:
                ups.append(ImplicitLayer(current, config.implicit_hidden))
        return nn.ModuleList(ups)

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
                scale1, scale2 = (
                    self.condition_scale1[str(level)](scaler),
                    self.condition_scale2[str(level)](scaler),
                )
                height, width = skips[-1].shape[2:]
                h = layer(h, scale1, scale2, shifts[level], (height, width))
                level -= 1
            else:
                h = layer(torch.cat([h, skips.pop()], dim=1), embedding)
        out: Tensor = self.final_conv(h)
        return out


class IdmNetwork(nn.Module):
    """The two networks of an IDM checkpoint. Images are in [-1, 1]; sizes are (height, width)."""

    def __init__(self, config: IdmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.denoise_fn = Unet(config)

    def encode(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """The condition (B, 3, H, W) for the low-resolution images (B, 3, h, w)."""
        out: Tensor = self.encoder(lr, size)
        return out

    def denoise(self, x: Tensor, cond: Tensor, scaler: Tensor, noise_level: Tensor) -> Tensor:
        """The noise predicted in x (B, 3, H, W); scaler and noise_level (sqrt of alpha_bar) have shape (B, 1)."""
        out: Tensor = self.denoise_fn(x, cond, scaler, noise_level)
        return out


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
    for number, width in implicit_layers(config).items():
        style = f"ups.{number}.style"
        unet |= {
            f"{style}.weight": (1,),
            f"{style}.modulated_conv.weight": (1, width, width, 3, 3),
            f"{style}.modulated_conv.modulation.weight": (width, 512),
            f"{style}.modulated_conv.modulation.bias": (width,),
        }
    return shapes | {f"denoise_fn.{name}": shape for name, shape in unet.items()}


def implicit_layers(config: IdmConfig) -> dict[int, int]:
    """Number of each implicit layer within `ups`, in the order they run, and its channels."""
    per_level = config.res_blocks + 2
    coarse_first = tuple(reversed(config.level_channels))[:-1]
    return {(step + 1) * per_level - 1: channels for step, channels in enumerate(coarse_first)}
