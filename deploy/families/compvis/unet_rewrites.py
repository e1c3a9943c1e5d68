"""The U-Net of latent diffusion and its exact rewrites, described over `Ops`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.compvis.config import UNetConfig
from deploy.families.compvis.layout import UNET, UNetBlock, input_blocks, output_blocks, residual_names
from deploy.families.compvis.unet import NORM_EPSILON
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import SAME, Array, Feeds, Ops, attended


def planar_attention(weights: Mapping[str, Array]) -> dict[str, Array]:
    """The attention's one-dimensional 1x1 convolutions as two-dimensional ones: the same numbers, one more axis."""
    return {name: value[..., None] for name, value in weights.items() if name.startswith(UNET) and value.ndim == 3}


class LatentUNetGraph:
    """Describes the U-Net: from the timestep to what residual blocks add, and from the latent to the noise."""

    def __init__(
        self, config: UNetConfig, weights: Mapping[str, Array], *, split: bool, epsilon: float = NORM_EPSILON
    ) -> None:
        self.config = config
        self._epsilon = epsilon
        self.residuals = residual_names(config)
        """Name -> channels of every block that the timestep reaches, in order."""
        self.total = sum(self.residuals.values())
        """Length of a table row."""
        self._inputs = input_blocks(config)
        self._outputs = output_blocks(config)
        self._split = split
        self.weights = planar_attention(weights)
        self._shortcuts = {name for name in self.residuals if f"{name}.skip_connection.weight" in weights}
        for block in self._outputs if split else []:
            if f"{block.name}.0" in self._shortcuts:
                name = f"{block.name}.0.skip_connection"
                self.weights |= split_convolution(weights, name, block.channels_in, bias="b")

    def shifts(self, ops: Ops[Any], timestep: Any) -> list[Any]:
        """What each residual block adds to its features, (rows, C, 1, 1) in the order of `residuals`."""
        half = self.config.model_channels // 2
        name = f"{UNET}.time_embed"
        frequency = np.exp(np.float32(-np.log(1e4) / half) * np.arange(half, dtype=np.float32))
        column = ops.reshape(timestep, (-1, 1), name)
        angle = ops.mul(column, ops.constant(frequency[None].astype(np.float32), f"{name}.frequency"), name)
        encoded = ops.concat([ops.cos(angle, name), ops.sin(angle, name)], name, axis=1)
        embedding = ops.linear(ops.silu(ops.linear(encoded, f"{name}.0"), f"{name}.1"), f"{name}.2")
        active = ops.silu(embedding, name)
        shifts = []
        for block, channels in self.residuals.items():
            inner = f"{block}.emb_layers.1"
            shifts.append(ops.reshape(ops.linear(active, inner), (0, channels, 1, 1), inner))
        return shifts

    def time_row(self, ops: Ops[Any], timestep: Any) -> Any:
        """The shifts side by side: a row of the table that spares computing them at each step."""
        return ops.concat(self.shifts(ops, timestep), f"{UNET}.time_row", axis=1)

    def shifts_of(self, ops: Ops[Any], feeds: Feeds) -> list[Any]:
        """The shifts that a step is given as `time_row`, else those of its `timestep`."""
        if "time_row" not in feeds:
            return self.shifts(ops, feeds["timestep"])
        parts: list[Any] = ops.split(feeds["time_row"], list(self.residuals.values()), f"{UNET}.time_row", axis=1)
        return parts

    def noise(self, ops: Ops[Any], h: Any, shifts: list[Any]) -> Any:
        """The predicted noise, from the output of the first convolution and what `shifts` returned."""
        by_name = dict(zip(self.residuals, shifts, strict=True))
        skips = [h]
        for block in self._inputs:
            if block.kind == "halving":
                h = ops.conv(h, f"{block.name}.0.op", stride=2, padding=SAME)
            else:
                h = self._attended(ops, block, self._residual(ops, h, self._shortcut(ops, block, h), block, by_name))
            skips.append(h)
        h = self._middle(ops, h, by_name)
        for block in self._outputs:
            h = self._joined(ops, block, h, skips.pop(), by_name)
        name = f"{UNET}.out"
        return ops.conv(self._active(ops, h, f"{name}.0"), f"{name}.2", padding=SAME)

    def _middle(self, ops: Ops[Any], h: Any, shifts: Mapping[str, Any]) -> Any:
        name = f"{UNET}.middle_block"
        h = ops.add(h, self._changed(ops, h, f"{name}.0", shifts), f"{name}.0")
        h = self._attention(ops, h, f"{name}.1", self.config.level_channels[-1])
        return ops.add(h, self._changed(ops, h, f"{name}.2", shifts), f"{name}.2")

    def _joined(self, ops: Ops[Any], block: UNetBlock, h: Any, skip: Any, shifts: Mapping[str, Any]) -> Any:
        joined = ops.concat([h, skip], block.name, axis=1)
        name = f"{block.name}.0.skip_connection"
        if self._split and f"{block.name}.0" in self._shortcuts:
            shortcut = ops.add(ops.conv(h, f"{name}.a"), ops.conv(skip, f"{name}.b"), name)
        else:
            shortcut = self._shortcut(ops, block, joined)
        h = self._attended(ops, block, self._residual(ops, joined, shortcut, block, shifts))
        if not block.doubling:
            return h
        last = f"{block.name}.{2 if block.attention else 1}"
        return ops.conv(ops.upsample(h, last), f"{last}.conv", padding=SAME)

    def _shortcut(self, ops: Ops[Any], block: UNetBlock, h: Any) -> Any:
        name = f"{block.name}.0"
        return ops.conv(h, f"{name}.skip_connection") if name in self._shortcuts else h

    def _residual(self, ops: Ops[Any], h: Any, shortcut: Any, block: UNetBlock, shifts: Mapping[str, Any]) -> Any:
        return ops.add(shortcut, self._changed(ops, h, f"{block.name}.0", shifts), f"{block.name}.0")

    def _changed(self, ops: Ops[Any], h: Any, name: str, shifts: Mapping[str, Any]) -> Any:
        """What a residual block adds to its shortcut."""
        h = ops.conv(self._active(ops, h, f"{name}.in_layers.0"), f"{name}.in_layers.2", padding=SAME)
        h = ops.add(h, shifts[name], f"{name}.emb_layers")
        return ops.conv(self._active(ops, h, f"{name}.out_layers.0"), f"{name}.out_layers.3", padding=SAME)

    def _active(self, ops: Ops[Any], h: Any, name: str) -> Any:
        return ops.silu(self._norm(ops, h, name), name)

    def _norm(self, ops: Ops[Any], h: Any, name: str) -> Any:
        return ops.group_norm(h, name, groups=self.config.norm_groups, epsilon=self._epsilon)

    def _attended(self, ops: Ops[Any], block: UNetBlock, h: Any) -> Any:
        return self._attention(ops, h, f"{block.name}.1", block.channels_out) if block.attention else h

    def _attention(self, ops: Ops[Any], x: Any, name: str, channels: int) -> Any:
        """Per head over all pixels; the channels of `qkv` are grouped per head, within a head as q, k, v."""
        width = self.config.num_head_channels
        qkv = ops.conv(self._norm(ops, x, f"{name}.norm"), f"{name}.qkv")
        heads = ops.reshape(qkv, (0, channels // width, 3 * width, -1), f"{name}.heads")
        parts = ops.split(heads, (width, width, width), f"{name}.qkv", axis=2)
        q, k, v = (ops.transpose(part, (0, 1, 3, 2), f"{name}.pixels") for part in parts)
        return ops.add(x, ops.conv(attended(ops, x, (q, k, v), name, channels, width), f"{name}.proj_out"), name)
