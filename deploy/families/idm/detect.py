"""IDM (Gao et al., CVPR 2023): how its checkpoints and configuration files are read.

Names start with `encoder.`, `denoise_fn.` and `imnet.` beside the tables of the training schedule.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.errors import ConfigError
from deploy.families.detection import (
    Detection,
    Settings,
    Shape,
    Source,
    Stored,
    divisor,
    refuse_unknown,
    resolve,
    section,
)
from deploy.families.idm.config import IdmConfig
from deploy.sampling.schedule import NoiseSchedule

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
DEFAULT_SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
FIELDS: tuple[str, ...] = tuple(field.name for field in fields(IdmConfig))
# Of the `unet` section of the authors' files; dropout is inactive outside training.
UNET_KEYS = (
    "in_channel",
    "out_channel",
    "inner_channel",
    "channel_multiplier",
    "attn_res",
    "res_blocks",
    "norm_groups",
)
TRAINING_ONLY = ("dropout",)


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    """The configuration and schedule, each value with its source."""
    read = read_from_shapes(stored)
    levels = read.pop("attention_levels")
    channels = [read["inner_channel"] * multiplier for multiplier in read["channel_multiplier"]]
    default = IdmConfig()
    assumed = {name: value for name, value in asdict(default).items() if name not in read and name != "attn_res"}
    assumed["norm_groups"] = divisor(default.norm_groups, channels)
    assumed["image_size"] = max(default.image_size, 2 ** len(channels))
    resolved = resolve(stored, read, settings, assumed)
    # `attn_res` names sizes, as they are when the largest is the image size.
    sizes = [resolved.values["image_size"] // 2**level for level in range(len(channels))]
    resolved.add_attention("attn_res", sizes, levels)
    schedule, resolved.sources["schedule"] = _schedule(stored, settings)
    return Detection(config=IdmConfig(**resolved.values), sources=resolved.sources, schedule=schedule)


def config_from_values(values: Mapping[str, Any]) -> IdmConfig:
    """The configuration from its fields, lists made tuples."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return IdmConfig(**fields)


def read_from_shapes(stored: Stored) -> dict[str, Any]:
    """The fields that the weights reveal, and `attention_levels`, which with the image size give `attn_res`."""
    unet = "denoise_fn."
    inner, in_channel = stored.shape(f"{unet}downs.0.weight", 4)[:2]
    features = stored.shape("encoder.head.0.weight", 4)[0]
    read: dict[str, Any] = {
        "in_channel": in_channel,
        "inner_channel": inner,
        "out_channel": stored.shape(f"{unet}final_conv.block.3.weight", 4)[0],
        "n_feats": features,
        # The last entry of the body is a convolution, not a block.
        "n_resblocks": sum(
            f"encoder.body.{n}.body.0.weight" in stored.shapes for n in stored.numbers_after("encoder.body.")
        ),
    }
    read["res_blocks"], widths, attention = stored.levels_of(
        f"{unet}downs.",
        halving="conv.weight",
        width="res_block.block2.block.3.weight",
        attention="attn.qkv.weight",
    )
    read["channel_multiplier"] = tuple(max(1, width // inner) for width in widths)
    hidden = [n for n in stored.numbers_after(f"{unet}ups.") if f"{unet}ups.{n}.imnet.0.weight" in stored.shapes]
    if hidden:
        read["implicit_hidden"] = stored.shape(f"{unet}ups.{hidden[0]}.imnet.0.weight", 2)[0]
    return read | {"attention_levels": attention}


def _schedule(stored: Stored, settings: list[Settings]) -> tuple[NoiseSchedule, Source]:
    """The schedule to run with.

    The authors save the tables of the training schedule and overwrite them with the configured validation
    schedule after loading (IDM quirk 10). So a configuration's "val" counts, once the stored tables prove that
    the configuration belongs to the checkpoint.
    """
    tables = None if stored.betas is None else NoiseSchedule.from_betas(stored.betas)
    for setting in settings:
        if not setting.schedules:
            continue
        given_schedule = setting.schedules.get("val") or next(iter(setting.schedules.values()))
        if stored.betas is not None and not any(
            np.array_equal(schedule.betas.astype(np.float32), stored.betas) for schedule in setting.schedules.values()
        ):
            stored.refuse_contradictions(
                [f"{setting.label} gives the noise schedule {given_schedule}, the stored tables are {tables}"]
            )
        return given_schedule, setting.source
    return (tables, "weights") if tables is not None else (DEFAULT_SCHEDULE, "assumed")


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    """What the authors' configuration file says about the network, the schedules and the magnification."""
    model = section(label, mapping, "model")
    if "unet" not in model:
        raise ConfigError(f"{label} is no configuration of IDM: it has no section model.unet. Pass IDM's JSON file.")
    unet = section(label, mapping, "model", "unet")
    refuse_unknown(f"{label}, model.unet", unet, (*UNET_KEYS, *TRAINING_ONLY))
    values = {key: value for key, value in unet.items() if key in UNET_KEYS}
    diffusion = section(label, mapping, "model", "diffusion")
    if "image_size" in diffusion:
        values["image_size"] = diffusion["image_size"]
    data = section(label, mapping, "datasets", "train")
    low, high = data.get("l_resolution"), data.get("r_resolution")
    if isinstance(low, int) and isinstance(high, int) and 0 < low < high:
        values["s_max"] = high / low
    schedules = {}
    for use in ("train", "val"):
        table = section(label, model, "beta_schedule", use)
        if table:
            keys = ("schedule", "n_timestep", "linear_start", "linear_end")
            refuse_unknown(f"{label}, model.beta_schedule.{use}", table, keys)
            schedules[use] = NoiseSchedule.from_kind(*(table.get(key) for key in keys))  # type: ignore[arg-type]
    return Settings(source="config", label=label, values=values, schedules=schedules)


def build(config: IdmConfig) -> "nn.Module":
    """The network; under `torch.device("meta")` it takes no memory."""
    from deploy.families.idm.network import IdmNetwork

    return IdmNetwork(config)


def unused_shapes(config: IdmConfig) -> dict[str, Shape]:
    """Names and shapes that the published checkpoints hold although no output depends on them."""
    from deploy.families.idm.network import unused_shapes as shapes

    return shapes(config)
