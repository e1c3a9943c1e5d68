"""SR3: how its checkpoints (`*_gen.pth`) and configuration files are read.

Its names are a part of IDM's, but for the convolutions that follow the doublings of the size: `ups.<N>.conv`.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deploy.errors import CheckpointError
from deploy.families.detection import Detection, Settings, Shape, Stored
from deploy.families.pixel_unet import detect as unet
from deploy.families.sr3.config import PUBLISHED, Sr3Config

if TYPE_CHECKING:
    from torch import nn

MARKS = (
    "denoise_fn.downs.0.weight",
    "denoise_fn.final_conv.block.3.weight",
    "denoise_fn.noise_level_mlp.1.weight",
)
DOUBLING = re.compile(r"denoise_fn\.ups\.\d+\.conv\.weight")
DOUBLINGS = tuple(f"denoise_fn.ups.{number}.conv.weight" for number in (3, 7, 11, 15))
"""Their names in the published network from 16 to 128 pixels."""
FIELDS: tuple[str, ...] = unet.config_names(Sr3Config)
SHOWN = ("channel_multiplier", "inner_channel", "res_blocks")
"""What tells the published networks apart, among what weights show."""


def marks_of(names: Mapping[str, Shape]) -> tuple[str, ...]:
    """The marks, with a convolution after a doubling, whose number depends on the blocks; all if there is none."""
    found = next((name for name in names if DOUBLING.fullmatch(name)), None)
    return (*MARKS, *(DOUBLINGS if found is None else (found,)))


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    """The configuration and schedule, each value with its source."""
    read = unet.read_from_shapes(stored)
    if read["in_channel"] == read["out_channel"]:
        raise CheckpointError(
            f"{stored.path} holds an unconditional SR3, which makes pictures from noise and is given none to enlarge; "
            "run it with its authors' code."
        )
    published = next((name for name, config in PUBLISHED.items() if _is_like(config, read)), None)
    default = PUBLISHED[published] if published else Sr3Config()
    found, schedule = unet.resolved(stored, read, settings, asdict(default))
    config = Sr3Config(**found.values)
    notes: tuple[str, ...] = ()
    if found.sources["norm_groups"] == "assumed":
        notes = (_note_on_groups(config, published),)
    return Detection(config=config, sources=found.sources, schedule=schedule, notes=notes)


def _is_like(config: Sr3Config, read: Mapping[str, Any]) -> bool:
    return all(read[name] == getattr(config, name) for name in SHOWN)


def _note_on_groups(config: Sr3Config, published: str | None) -> str:
    whose = "the authors' default" if published is None else f"that of the published network {published}"
    return (
        f"norm_groups {config.norm_groups} is {whose}; weights do not show it, and a wrong one spoils every picture. "
        "If this network was trained with another, give its JSON file with --config."
    )


def config_from_values(values: Mapping[str, Any]) -> Sr3Config:
    """The configuration from its fields, lists made tuples."""
    return Sr3Config(**unet.tuples_of_lists(values))


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    """What the authors' configuration file says about the network, the schedules and the magnification."""
    return unet.settings_from_mapping(mapping, label, family="SR3", magnification="scale")


def build(config: Sr3Config) -> "nn.Module":
    """The network; under `torch.device("meta")` it takes no memory."""
    from deploy.families.sr3.network import Sr3Network

    return Sr3Network(config)
