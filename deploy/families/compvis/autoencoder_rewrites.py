"""Blocks of CompVis' auto-encoder, described over `Ops`."""

from collections.abc import Mapping
from typing import Any

from deploy.families.compvis.autoencoder import NORM_EPSILON
from deploy.families.rewriting.ops import SAME, Array, Ops, attended


class AutoencoderBlocks:
    """Describes the blocks that encoder and decoder consist of, by their names in `weights`."""

    def __init__(self, weights: Mapping[str, Array], norm_groups: int) -> None:
        self.norm_groups = norm_groups
        end = ".nin_shortcut.weight"
        self._shortcuts = {name.removesuffix(end) for name in weights if name.endswith(end)}

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
        h = self.norm(ops, x, f"{name}.norm")
        q, k, v = (
            ops.transpose(
                ops.reshape(ops.conv(h, f"{name}.{part}"), (0, 1, channels, -1), f"{name}.{part}"),
                (0, 1, 3, 2),
                f"{name}.{part}",
            )
            for part in "qkv"
        )
        return ops.add(x, ops.conv(attended(ops, x, (q, k, v), name, channels, channels), f"{name}.proj_out"), name)

    def active(self, ops: Ops[Any], h: Any, name: str) -> Any:
        """Normalised, then x * sigmoid(x)."""
        return ops.silu(self.norm(ops, h, name), name)

    def norm(self, ops: Ops[Any], h: Any, name: str) -> Any:
        """Normalisation over groups of channels."""
        return ops.group_norm(h, name, groups=self.norm_groups, epsilon=NORM_EPSILON)
