"""The order in which the U-Net runs its blocks, as lists that a description can walk."""

from dataclasses import dataclass
from typing import Literal

from deploy.families.compvis.config import UNetConfig

UNET = "model.diffusion_model"
"""Where a checkpoint keeps the U-Net."""


@dataclass(frozen=True, kw_only=True)
class UNetBlock:
    """One entry of `input_blocks`, the middle or `output_blocks`.

    `skip` counts the channels that are joined behind the `channels_in` that arrive. `doubling`: the block ends in
    an enlargement.
    """

    kind: Literal["block", "halving"]
    name: str
    channels_in: int
    channels_out: int
    skip: int = 0
    attention: bool = False
    doubling: bool = False


def input_blocks(config: UNetConfig) -> list[UNetBlock]:
    """The way down after the first convolution; every output is kept for the way up."""
    blocks: list[UNetBlock] = []
    current = config.model_channels
    for level, channels in enumerate(config.level_channels):
        for _ in range(config.num_res_blocks):
            name = f"{UNET}.input_blocks.{len(blocks) + 1}"
            attention = config.has_attention(level)
            blocks.append(
                UNetBlock(kind="block", name=name, channels_in=current, channels_out=channels, attention=attention)
            )
            current = channels
        if level < len(config.level_channels) - 1:
            name = f"{UNET}.input_blocks.{len(blocks) + 1}"
            blocks.append(UNetBlock(kind="halving", name=name, channels_in=current, channels_out=current))
    return blocks


def output_blocks(config: UNetConfig) -> list[UNetBlock]:
    """The way up: one block more per level than on the way down, each with one kept feature map joined."""
    skips = [config.model_channels, *(block.channels_out for block in input_blocks(config))]
    blocks: list[UNetBlock] = []
    current = config.level_channels[-1]
    for level in reversed(range(len(config.level_channels))):
        channels = config.level_channels[level]
        for index in range(config.num_res_blocks + 1):
            blocks.append(
                UNetBlock(
                    kind="block",
                    name=f"{UNET}.output_blocks.{len(blocks)}",
                    channels_in=current,
                    channels_out=channels,
                    skip=skips.pop(),
                    attention=config.has_attention(level),
                    doubling=level > 0 and index == config.num_res_blocks,
                )
            )
            current = channels
    return blocks


def residual_names(config: UNetConfig) -> dict[str, int]:
    """The residual blocks by name, with their output channels, in the order in which they run."""
    names = {f"{block.name}.0": block.channels_out for block in input_blocks(config) if block.kind == "block"}
    names |= {f"{UNET}.middle_block.{index}": config.level_channels[-1] for index in (0, 2)}
    return names | {f"{block.name}.0": block.channels_out for block in output_blocks(config)}
