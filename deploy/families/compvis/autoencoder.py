"""Blocks of CompVis' auto-encoder, with the published parameter names.

Shapes are (batch, channels, height, width).
"""

from torch import Tensor, nn
from torch.nn import functional

from deploy.families.compvis.config import AutoencoderSizes

NORM_EPSILON = 1e-6
"""Of the auto-encoder's group normalisation; the U-Net has 1e-5."""


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=NORM_EPSILON)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=NORM_EPSILON)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        shortcut: Tensor = self.nin_shortcut(x)
        return shortcut + h


class AttentionBlock(nn.Module):
    """One-head self-attention over all pixels; the input is added to its output."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj_out(mixed[:, 0].transpose(1, 2).reshape(x.shape))
        return x + out


class Downsample(nn.Module):
    """Halves both sides, rounding down: one row below and one column at the right are added before stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one level, each followed by attention where the level has it, then halving if asked."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        blocks: int,
        groups: int,
        *,
        attention: bool,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResBlock(channels_in if index == 0 else channels, channels, groups) for index in range(blocks)
        )
        self.attn = nn.ModuleList(AttentionBlock(channels, groups) for _ in range(blocks if attention else 0))
        self.downsample = Downsample(channels) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        return x if self.downsample is None else self.downsample(x)


class Middle(nn.Module):
    """Residual block, attention, residual block at the deepest level."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = AttentionBlock(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Image -> maps at 1/stride of its size."""

    def __init__(self, config: AutoencoderSizes) -> None:
        super().__init__()
        groups, channels = config.norm_groups, config.ch
        self.conv_in = nn.Conv2d(config.in_channels, channels, 3, padding=1)
        self.down = nn.Sequential()
        for level, level_channels in enumerate(config.level_channels):
            self.down.append(
                Level(
                    channels,
                    level_channels,
                    config.num_res_blocks,
                    groups,
                    attention=config.has_attention(level),
                    downsample=level < len(config.ch_mult) - 1,
                )
            )
            channels = level_channels
        self.mid = Middle(channels, groups)
        self.norm_out = nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
        self.conv_out = nn.Conv2d(channels, config.map_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        h = self.mid(self.down(self.conv_in(image)))
        return self.conv_out(functional.silu(self.norm_out(h)))
