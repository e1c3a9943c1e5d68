"""IDM (Gao et al., CVPR 2023): how its checkpoints and configuration files are read.

Names start with `encoder.`, `denoise_fn.` and `imnet.` beside the tables of the training schedule.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deploy.families.detection import Detection, Settings, Shape, Stored
from deploy.families.idm.config import IdmConfig
from deploy.families.pixel_unet import detect as unet

if TYPE_CHECKING:
    from torch import nn

# The encoder and the implicit layers tell it from SR3, whose U-Net has the other names as well.
MARKS = (
    "denoise_fn.downs.0.weight",
    "denoise_fn.final_conv.block.3.weight",
    "denoise_fn.noise_level_mlp.1.weight",
    "denoise_fn.conv_body_first.0.weight",
    "encoder.head.0.weight",
)
FIELDS: tuple[str, ...] = unet.config_names(IdmConfig)


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    """The configuration and schedule, each value with its source."""
    found, schedule = unet.resolved(stored, read_from_shapes(stored), settings, asdict(IdmConfig()))
    return Detection(config=IdmConfig(**found.values), sources=found.sources, schedule=schedule)


def config_from_values(values: Mapping[str, Any]) -> IdmConfig:
    """The configuration from its fields, lists made tuples."""
    return IdmConfig(**unet.tuples_of_lists(values))


def read_from_shapes(stored: Stored) -> dict[str, Any]:
    """The fields that the weights reveal, and `attention_levels`, which with the image size give `attn_res`."""
    read = unet.read_from_shapes(stored)
    read["n_feats"] = stored.shape("encoder.head.0.weight", 4)[0]
    # The last entry of the body is a convolution, not a block.
    numbers = stored.numbers_after("encoder.body.")
    read["n_resblocks"] = sum(f"encoder.body.{n}.body.0.weight" in stored.shapes for n in numbers)
    ups = f"{unet.UNET}ups."
    hidden = [n for n in stored.numbers_after(ups) if f"{ups}{n}.imnet.0.weight" in stored.shapes]
    if hidden:
        read["implicit_hidden"] = stored.shape(f"{ups}{hidden[0]}.imnet.0.weight", 2)[0]
    return read


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    """What the authors' configuration file says about the network, the schedules and the magnification."""
    return unet.settings_from_mapping(mapping, label, family="IDM", magnification="s_max")


def build(config: IdmConfig) -> "nn.Module":
    """The network; under `torch.device("meta")` it takes no memory."""
    from deploy.families.idm.network import IdmNetwork

    return IdmNetwork(config)


def unused_shapes(config: IdmConfig) -> dict[str, Shape]:
    """Names and shapes that the published checkpoints hold although no output depends on them."""
    from deploy.families.idm.network import unused_shapes as shapes

    return shapes(config)
