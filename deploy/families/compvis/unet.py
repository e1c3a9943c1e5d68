"""The U-Net of latent diffusion (OpenAI guided-diffusion style), with the published parameter names.

Shapes are (batch, channels, height, width). The numbers in names such as `in_layers.2` come from the
checkpoints and must not change: an index without parameters is an activation or a dropout, inactive here.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.families.compvis.config import UNetConfig
from deploy.families.compvis.layout import UNetBlock, input_blocks, output_blocks

NORM_EPSILON = 1e-5
"""Of the U-Net's group normalisation, as published; the auto-encoder has 1e-6."""


def timestep_embedding(timestep: Tensor, channels: int) -> Tensor:
    """(B,) timesteps -> (B, channels): cos(t * 10000^(-k/half)) for k = 0..half-1, then sin of the same."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
    angle = timestep[:, None].float() * torch.exp(-math.log(1e4) / half * steps)
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=-1)


class TimedSequential(nn.Sequential):
    """Runs its modules in turn and hands the embedding to the residual blocks among them."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        for module in self:
            x = module(x, embedding) if isinstance(module, ResBlock) else module(x)
        return x


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions with the embedding added between them, beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int, epsilon: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels_in, eps=epsilon),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels_out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, channels_out, eps=epsilon),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        same = channels_in == channels_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        shift: Tensor = self.emb_layers(embedding)
        h: Tensor = self.out_layers(self.in_layers(x) + shift[:, :, None, None])
        shortcut: Tensor = self.skip_connection(x)
        return shortcut + h


class AttentionBlock(nn.Module):
    """Self-attention over all pixels in heads of `head_channels`; the input is added to its output.

    The channels of `qkv` are grouped per head, and within a head in the order q, k, v. The published code
    multiplies q and k by head_channels^(-1/4) each, which is the usual division of the logits.
    """

    def __init__(self, channels: int, head_channels: int, groups: int, epsilon: float) -> None:
        super().__init__()
        self.head_channels = head_channels
        self.norm = nn.GroupNorm(groups, channels, eps=epsilon)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        heads = channels // self.head_channels
        qkv: Tensor = self.qkv(self.norm(x).flatten(2))
        per_head = qkv.reshape(batch, heads, 3 * self.head_channels, height * width).transpose(2, 3)
        q, k, v = per_head.chunk(3, dim=3)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        mixed = mixed.transpose(2, 3).reshape(batch, channels, height * width)
        out: Tensor = self.proj_out(mixed)
        return x + out.reshape(batch, channels, height, width)


class Downsample(nn.Module):
    """Halves both sides by a 3x3 convolution with stride 2, padded by 1 on all sides."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Doubles both sides by repetition, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class LatentUNet(nn.Module):
    """Predicts the noise in a latent from the latent, the condition's channels and the timestep."""

    def __init__(self, config: UNetConfig, epsilon: float = NORM_EPSILON) -> None:
        super().__init__()
        self.config = config
        embedding = 4 * config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        first = TimedSequential(nn.Conv2d(config.in_channels, config.model_channels, 3, padding=1))
        self.input_blocks = nn.ModuleList(
            [first, *(_modules(block, config, embedding, epsilon) for block in input_blocks(config))]
        )
        deepest = config.level_channels[-1]
        self.middle_block = TimedSequential(
            ResBlock(deepest, deepest, embedding, config.norm_groups, epsilon),
            AttentionBlock(deepest, config.num_head_channels, config.norm_groups, epsilon),
            ResBlock(deepest, deepest, embedding, config.norm_groups, epsilon),
        )
        self.output_blocks = nn.ModuleList(
            _modules(block, config, embedding, epsilon) for block in output_blocks(config)
        )
        finest = config.level_channels[0]
        self.out = nn.Sequential(
            nn.GroupNorm(config.norm_groups, finest, eps=epsilon),
            nn.SiLU(),
            nn.Conv2d(finest, config.out_channels, 3, padding=1),
        )

    def embed(self, timestep: Tensor) -> Tensor:
        """(B,) timesteps -> (B, 4 * model_channels), what every residual block receives."""
        return self.time_embed(timestep_embedding(timestep, self.config.model_channels))

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """(B, in_channels, h, w), (B,) -> (B, out_channels, h, w); h and w divide by the config's stride."""
        embedding = self.embed(timestep)
        skips = []
        for block in self.input_blocks:
            x = block(x, embedding)
            skips.append(x)
        x = self.middle_block(x, embedding)
        for block in self.output_blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return self.out(x)


def _modules(block: UNetBlock, config: UNetConfig, embedding: int, epsilon: float) -> TimedSequential:
    """The modules that an entry of `input_blocks` or `output_blocks` is."""
    if block.kind == "halving":
        return TimedSequential(Downsample(block.channels_in))
    channels, groups = block.channels_out, config.norm_groups
    modules: list[nn.Module] = [ResBlock(block.channels_in + block.skip, channels, embedding, groups, epsilon)]
    if block.attention:
        modules.append(AttentionBlock(channels, config.num_head_channels, groups, epsilon))
    if block.doubling:
        modules.append(Upsample(channels))
    return TimedSequential(*modules)
