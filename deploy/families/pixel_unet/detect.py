"""How the U-Net's hyper-parameters and its schedule are read: from names and shapes, and from the authors' JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.bundle.records import ValueSource
from deploy.errors import ConfigError
from deploy.families.detection import Resolved, Settings, Stored, divisor, refuse_unknown, resolve, section
from deploy.families.pixel_unet.config import UnetConfig
from deploy.sampling.schedule import NoiseSchedule

UNET = "denoise_fn."
"""What the names of the U-Net's tensors begin with."""
DEFAULT_SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
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


def read_from_shapes(stored: Stored) -> dict[str, Any]:
    """The fields that the weights reveal, and `attention_levels`, which with the image size give `attn_res`."""
    inner, in_channel = stored.shape(f"{UNET}downs.0.weight", 4)[:2]
    read: dict[str, Any] = {
        "in_channel": in_channel,
        "inner_channel": inner,
        "out_channel": stored.shape(f"{UNET}final_conv.block.3.weight", 4)[0],
    }
    read["res_blocks"], widths, attention = stored.levels_of(
        f"{UNET}downs.",
        halving="conv.weight",
        width="res_block.block2.block.3.weight",
        attention="attn.qkv.weight",
    )
    read["channel_multiplier"] = tuple(max(1, width // inner) for width in widths)
    return read | {"attention_levels": attention}


def resolved(
    stored: Stored, read: Mapping[str, Any], settings: list[Settings], assumed: Mapping[str, Any]
) -> tuple[Resolved, NoiseSchedule]:
    """Every field's value with its source, and the schedule; `read` is of `read_from_shapes` and the family.

    assumed: the family's defaults; of those, `norm_groups` is fitted to the widths and `image_size` to the levels.
    """
    fields = dict(read)
    levels = fields.pop("attention_levels")
    channels = [fields["inner_channel"] * multiplier for multiplier in fields["channel_multiplier"]]
    defaults = {name: value for name, value in assumed.items() if name not in fields and name != "attn_res"}
    defaults["norm_groups"] = divisor(defaults["norm_groups"], channels)
    defaults["image_size"] = max(defaults["image_size"], 2 ** len(channels))
    found = resolve(stored, fields, settings, defaults)
    # `attn_res` names sizes, as they are when the largest is the image size.
    sizes = [found.values["image_size"] // 2**level for level in range(len(channels))]
    found.add_attention("attn_res", sizes, levels)
    schedule, found.sources["schedule"] = schedule_of(stored, settings)
    return found, schedule


def schedule_of(stored: Stored, settings: list[Settings]) -> tuple[NoiseSchedule, ValueSource]:
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


def settings_from_mapping(mapping: Mapping[str, Any], label: str, *, family: str, magnification: str) -> Settings:
    """What the authors' configuration file says about the network, the schedules and the magnification.

    family: its name for people. magnification: the field of its configuration that holds it.
    """
    model = section(label, mapping, "model")
    if "unet" not in model:
        raise ConfigError(
            f"{label} is no configuration of {family}: it has no section model.unet. Pass {family}'s JSON file."
        )
    unet = section(label, mapping, "model", "unet")
    refuse_unknown(f"{label}, model.unet", unet, (*UNET_KEYS, *TRAINING_ONLY))
    values = {key: value for key, value in unet.items() if key in UNET_KEYS}
    diffusion = section(label, mapping, "model", "diffusion")
    if "image_size" in diffusion:
        values["image_size"] = diffusion["image_size"]
    data = section(label, mapping, "datasets", "train")
    low, high = data.get("l_resolution"), data.get("r_resolution")
    if isinstance(low, int) and isinstance(high, int) and 0 < low < high:
        values[magnification] = high / low
    schedules = {}
    for use in ("train", "val"):
        table = section(label, model, "beta_schedule", use)
        if table:
            keys = ("schedule", "n_timestep", "linear_start", "linear_end")
            refuse_unknown(f"{label}, model.beta_schedule.{use}", table, keys)
            schedules[use] = NoiseSchedule.from_kind(*(table.get(key) for key in keys))  # type: ignore[arg-type]
    return Settings(source="config", label=label, values=values, schedules=schedules)


def tuples_of_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration as JSON has them, lists made tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def config_names(config: type[UnetConfig]) -> tuple[str, ...]:
    """The fields of a family's configuration, the U-Net's first."""
    return tuple(config.__dataclass_fields__)
