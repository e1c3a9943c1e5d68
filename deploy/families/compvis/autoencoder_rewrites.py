"""Blocks of CompVis' auto-encoder, described over `Ops`."""

from collections.abc import Mapping
from typing import Any

from deploy.families.compvis.autoencoder import NORM_EPSILON
from deploy.families.compvis.config import AutoencoderSizes
from deploy.families.rewriting.ops import SAME, Array, Ops, attended

BELOW_AND_RIGHT = (0, 0, 1, 1)
"""How the encoder's convolutions of stride 2 are padded."""


class AutoencoderBlocks:
    """Describes the blocks that encoder and decoder consist of, by their names in `weights`."""

    def __init__(self, weights: Mapping[str, Array], norm_groups: int) -> None:
        self.norm_groups = norm_groups
        end = ".nin_shortcut.weight"
        self._shortcuts = {name.removesuffix(end) for name in weights if name.endswith(end)}

    def encoded(self, ops: Ops[Any], image: Any, name: str, config: AutoencoderSizes) -> Any:
        """The maps that the encoder called `name` makes of a picture."""
        h = ops.conv(image, f"{name}.conv_in", padding=SAME)
        for level, channels in enumerate(config.level_channels):
            attention = config.has_attention(level)
            h = self.level(ops, h, f"{name}.down.{level}", config.num_res_blocks, channels, attention=attention)
            if level < len(config.ch_mult) - 1:
                h = ops.conv(h, f"{name}.down.{level}.downsample.conv", stride=2, padding=BELOW_AND_RIGHT)
        h = self.middle(ops, h, f"{name}.mid", config.level_channels[-1])
        return ops.conv(self.active(ops, h, f"{name}.norm_out"), f"{name}.conv_out", padding=SAME)

    def level(self, ops: Ops[Any], h: Any, name: str, blocks: int, channels: int, *, attention: bool) -> Any:
        """Residual blocks, each followed by attention where the level has it."""
        for index in range(blocks):
            h = self.residual(ops, h, f"{name}.block.{index}")
            if attention:
                h = self.attention(ops, h, f"{name}.attn.{index}", channels)
        return h

    def middle(self, ops: Ops[Any], h: Any, name: str, channels: int) -> Any:
        """Residual block, attention, residual block at the deepest level."""
        h = self.residual(ops, h, f"{name}.block_1")
        h = self.attention(ops, h, f"{name}.attn_1", channels)
        return self.residual(ops, h, f"{name}.block_2")

    def residual(self, ops: Ops[Any], x: Any, name: str) -> Any:
        """Two normalised 3x3 convolutions beside a shortcut."""
        h = ops.conv(self.active(ops, x, f"{name}.norm1"), f"{name}.conv1", padding=SAME)
        h = ops.conv(self.active(ops, h, f"{name}.norm2"), f"{name}.conv2", padding=SAME)
        shortcut = ops.conv(x, f"{name}.nin_shortcut") if name in self._shortcuts else x
        return ops.add(shortcut, h, name)

    def attention(self, ops: Ops[Any], x: Any, name: str, channels: int) -> Any:
        """Attention with one head over all pixels."""
        q, k, v = self.asked(ops, x, name, channels)
        return ops.add(x, ops.conv(attended(ops, x, (q, k, v), name, channels, channels), f"{name}.proj_out"), name)

    def asked(self, ops: Ops[Any], x: Any, name: str, channels: int) -> list[Any]:
        """Queries, keys and values of an attention over all pixels, (batch, 1, pixels, channels) each."""
        h = self.norm(ops, x, f"{name}.norm")
        parts = [ops.reshape(ops.conv(h, f"{name}.{part}"), (0, 1, channels, -1), f"{name}.{part}") for part in "qkv"]
        named = zip(parts, "qkv", strict=True)
        return [ops.transpose(tensor, (0, 1, 3, 2), f"{name}.{part}") for tensor, part in named]

    def active(self, ops: Ops[Any], h: Any, name: str) -> Any:
        """Normalised, then x * sigmoid(x)."""
        return ops.silu(self.norm(ops, h, name), name)

    def norm(self, ops: Ops[Any], h: Any, name: str) -> Any:
        """Normalisation over groups of channels."""
        return ops.group_norm(h, name, groups=self.norm_groups, epsilon=NORM_EPSILON)
