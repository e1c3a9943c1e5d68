"""The order in which the U-Net runs its layers, as a list that a description can walk."""

from dataclasses import dataclass, replace
from typing import Literal

from deploy.families.pixel_unet.config import UnetConfig


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One entry of `downs`, `mid` or `ups`. `level` is where its output lives; `skip` counts channels joined to it."""

    kind: Literal["block", "halving", "doubling"]
    name: str
    channels_in: int
    channels_out: int
    level: int
    skip: int = 0
    attention: bool = False

    @property
    def shortcut(self) -> bool:
        """Whether a block's shortcut is a convolution: it is where the number of channels changes."""
        return self.kind == "block" and self.channels_in + self.skip != self.channels_out


def down_layers(config: UnetConfig) -> list[Layer]:
    """The way down after the first convolution; every output is kept for the way up."""
    layers: list[Layer] = []
    current = config.inner_channel
    for level, channels in enumerate(config.level_channels):
        for _ in range(config.res_blocks):
            layers.append(_block(f"downs.{len(layers) + 1}", current, channels, level, config))
            current = channels
        if level < config.levels - 1:
            name = f"downs.{len(layers) + 1}"
            layers.append(Layer(kind="halving", name=name, channels_in=current, channels_out=current, level=level + 1))
    return layers


def mid_layers(config: UnetConfig) -> list[Layer]:
    """The two blocks at the coarsest level; the first always has attention."""
    channels, level = config.level_channels[-1], config.levels - 1
    block = Layer(kind="block", name="mid.0", channels_in=channels, channels_out=channels, level=level, attention=True)
    return [block, replace(block, name="mid.1", attention=False)]


def up_layers(config: UnetConfig) -> list[Layer]:
    """The way up: blocks that each join one kept feature map, then what doubles the size for the next level."""
    skips = [config.inner_channel, *(layer.channels_out for layer in down_layers(config))]
    layers: list[Layer] = []
    current = config.level_channels[-1]
    for level in reversed(range(config.levels)):
        channels = config.level_channels[level]
        for _ in range(config.res_blocks + 1):
            layers.append(_block(f"ups.{len(layers)}", current, channels, level, config, skip=skips.pop()))
            current = channels
        if level > 0:
            name = f"ups.{len(layers)}"
            layers.append(Layer(kind="doubling", name=name, channels_in=current, channels_out=current, level=level - 1))
    return layers


def _block(name: str, channels_in: int, channels_out: int, level: int, config: UnetConfig, skip: int = 0) -> Layer:
    return Layer(
        kind="block",
        name=name,
        channels_in=channels_in,
        channels_out=channels_out,
        level=level,
        skip=skip,
        attention=level in config.attention_levels,
    )
