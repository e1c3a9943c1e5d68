"""The U-Net as graphs: the same noise to float rounding, with less work per step.

Level k works at ceil(size / 2^k). Each rewrite is exact on its own, and can be left out.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.families.pixel_unet.config import UnetConfig
from deploy.families.pixel_unet.layers import NORM_EPSILON
from deploy.families.pixel_unet.layout import Layer, down_layers, mid_layers, up_layers
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import SAME, Array, Feeds, Forward, Ops, Part, attended
from engines.contract import TensorSpec

NOISE_LEVEL = TensorSpec("noise_level", "float32", ("rows", 1))


class UnetParts(ABC):
    """Describes the graphs that families with this U-Net share: `tabulate`, and what of `denoise` is the U-Net.

    `drop-unused` needs nothing here: eps(x; w, u) = eps(x; w), no graph mentions u, so the export leaves it out.
    """

    def __init__(self, config: UnetConfig, weights: Mapping[str, Array], rewrites: frozenset[str]) -> None:
        self.unet = config
        self.hoist = "hoist-condition" in rewrites
        self.tabulate = "tabulate-noise" in rewrites
        self.split = "split-shortcut" in rewrites
        self.downs = down_layers(config)
        self.mids = mid_layers(config)
        self.ups = up_layers(config)
        self.blocks = [layer for layer in (*self.downs, *self.mids, *self.ups) if layer.kind == "block"]
        self.weights = dict(weights) | self._split(weights)

    def _split(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        changed: dict[str, Array] = {}
        if self.hoist:
            changed |= split_convolution(weights, "denoise_fn.downs.0", self.unet.out_channel, bias="a")
        for layer in self.ups:
            if self.split and layer.shortcut:
                name = f"denoise_fn.{layer.name}.res_block.res_conv"
                changed |= split_convolution(weights, name, layer.channels_in, bias="a")
        return changed

    @abstractmethod
    def doubled(self, ops: Ops[Any], layer: Layer, h: Any, condition: Feeds) -> Any:
        """What leads from a level to the next finer one; `condition` has what the graph is fed and more."""

    def part(self, name: str, inputs: list[TensorSpec], outputs: list[TensorSpec], forward: Forward) -> Part:
        """One graph on these weights."""
        return Part(name=name, inputs=tuple(inputs), outputs=tuple(outputs), weights=self.weights, forward=forward)

    def picture_spec(self, name: str, height: str = "height", width: str = "width") -> TensorSpec:
        """An input or output with the channels of a picture."""
        return TensorSpec(name, "float32", ("batch", self.unet.out_channel, height, width))

    def first_spec(self) -> TensorSpec:
        """`hoist-condition`: the condition's half of the first convolution."""
        return TensorSpec("first", "float32", ("batch", self.unet.inner_channel, "height", "width"))

    def level_spec(self) -> TensorSpec:
        """What the denoiser is fed of the noise level."""
        return self._row_spec() if self.tabulate else NOISE_LEVEL

    # tabulate: (rows, 1) noise levels -> (rows, sum of channels, 1, 1), once per plan

    def tabulate_part(self) -> Part:
        """The graph that makes the rows of noise levels."""
        return self.part("tabulate", [NOISE_LEVEL], [self._row_spec()], self._run_tabulate)

    def _row_spec(self) -> TensorSpec:
        return TensorSpec("noise_row", "float32", ("rows", sum(layer.channels_out for layer in self.blocks), 1, 1))

    def _run_tabulate(self, ops: Ops[Any], feeds: Feeds) -> dict[str, Any]:
        rows = self._noise_shifts(ops, feeds["noise_level"])
        return {"noise_row": ops.concat(rows, "denoise_fn.noise_row", axis=1)}

    def _noise_shifts(self, ops: Ops[Any], noise_level: Any) -> list[Any]:
        """What each residual block adds to its features, (rows, C, 1, 1) in the order of `blocks`.

        `tabulate-noise`: shift_n(level) = Wn mlp(sin(level f), cos(level f)) + bn depends on the noise level alone.
        """
        half = self.unet.inner_channel // 2
        name = "denoise_fn.noise_level_mlp"
        frequency = np.exp(-np.float32(np.log(1e4)) * (np.arange(half, dtype=np.float32) / np.float32(half)))
        angle = ops.mul(noise_level, ops.constant(frequency[None].astype(np.float32), f"{name}.frequency"), name)
        encoded = ops.concat([ops.sin(angle, name), ops.cos(angle, name)], name, axis=1)
        embedding = ops.linear(ops.silu(ops.linear(encoded, f"{name}.1"), name), f"{name}.3")
        shifts = []
        for layer in self.blocks:
            inner = f"denoise_fn.{layer.name}.res_block.noise_func.noise_func.0"
            shifts.append(ops.reshape(ops.linear(embedding, inner), (0, layer.channels_out, 1, 1), inner))
        return shifts

    # denoise: once per step

    def predicted_noise(self, ops: Ops[Any], feeds: Feeds, condition: Feeds) -> Any:
        """The noise that the U-Net sees in the state; `condition` is what `doubled` is given."""
        if self.tabulate:
            sizes = [layer.channels_out for layer in self.blocks]
            shifts = ops.split(feeds["noise_row"], sizes, "denoise_fn.noise_row", axis=1)
        else:
            shifts = self._noise_shifts(ops, feeds["noise_level"])
        by_name = {layer.name: shift for layer, shift in zip(self.blocks, shifts, strict=True)}
        h = self._first(ops, feeds)
        skips = [h]
        for layer in self.downs:
            h = self._layer(ops, layer, h, by_name)
            skips.append(h)
        for layer in self.mids:
            h = self._layer(ops, layer, h, by_name)
        for layer in self.ups:
            if layer.kind == "doubling":
                h = self.doubled(ops, layer, h, condition)
            else:
                h = self._joined_block(ops, layer, h, skips.pop(), by_name[layer.name])
        return self._block(ops, h, "denoise_fn.final_conv")

    def _first(self, ops: Ops[Any], feeds: Feeds) -> Any:
        name = "denoise_fn.downs.0"
        if not self.hoist:
            return ops.conv(ops.concat([feeds["cond"], feeds["x"]], name, axis=1), name, padding=SAME)
        return ops.add(ops.conv(feeds["x"], f"{name}.b", padding=SAME), feeds["first"], name)

    def _layer(self, ops: Ops[Any], layer: Layer, h: Any, shifts: Mapping[str, Any]) -> Any:
        name = f"denoise_fn.{layer.name}"
        if layer.kind == "halving":
            return ops.conv(h, f"{name}.conv", stride=2, padding=SAME)
        shortcut = ops.conv(h, f"{name}.res_block.res_conv") if layer.shortcut else h
        return self._residual(ops, layer, h, shortcut, shifts[layer.name])

    def _joined_block(self, ops: Ops[Any], layer: Layer, h: Any, skip: Any, shift: Any) -> Any:
        name = f"denoise_fn.{layer.name}.res_block.res_conv"
        joined = ops.concat([h, skip], f"denoise_fn.{layer.name}", axis=1)
        shortcut = joined
        if layer.shortcut and self.split:
            shortcut = ops.add(ops.conv(h, f"{name}.a"), ops.conv(skip, f"{name}.b"), name)
        elif layer.shortcut:
            shortcut = ops.conv(joined, name)
        return self._residual(ops, layer, joined, shortcut, shift)

    def _residual(self, ops: Ops[Any], layer: Layer, h: Any, shortcut: Any, shift: Any) -> Any:
        name = f"denoise_fn.{layer.name}"
        h = ops.add(self._block(ops, h, f"{name}.res_block.block1"), shift, f"{name}.res_block.noise_func")
        h = ops.add(self._block(ops, h, f"{name}.res_block.block2"), shortcut, f"{name}.res_block")
        return self._attention(ops, layer, h) if layer.attention else h

    def _block(self, ops: Ops[Any], h: Any, name: str) -> Any:
        h = ops.group_norm(h, f"{name}.block.0", groups=self.unet.norm_groups, epsilon=NORM_EPSILON)
        return ops.conv(ops.silu(h, f"{name}.block.1"), f"{name}.block.3", padding=SAME)

    def _attention(self, ops: Ops[Any], layer: Layer, x: Any) -> Any:
        name, channels = f"denoise_fn.{layer.name}.attn", layer.channels_out
        h = ops.group_norm(x, f"{name}.norm", groups=self.unet.norm_groups, epsilon=NORM_EPSILON)
        qkv = ops.reshape(ops.conv(h, f"{name}.qkv"), (0, 3, channels, -1), f"{name}.pixels")
        qkv = ops.transpose(qkv, (0, 1, 3, 2), f"{name}.pixels")
        q, k, v = ops.split(qkv, (1, 1, 1), f"{name}.qkv", axis=1)
        return ops.add(ops.conv(attended(ops, x, (q, k, v), name, channels, channels), f"{name}.out"), x, name)
