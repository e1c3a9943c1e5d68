"""The latent family (Kim and Kim, CVPR 2024): how its checkpoints and configuration files are read.

Three kinds of file: super-resolution and generation models (a U-Net below `model.`, its moving average below
`model_ema.`, the auto-encoder below `first_stage_model.`), and auto-encoders alone.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from deploy.errors import ConfigError
from deploy.families.compvis.config import UNetConfig
from deploy.families.compvis.detect import UNET, schedule_of, unet_from_shapes
from deploy.families.detection import (
    Detection,
    Settings,
    Shape,
    Stored,
    divisor,
    refuse_unknown,
    resolve,
    section,
)
from deploy.families.latent.config import FirstStageConfig, Kind, LatentConfig, latent_config_from_mapping
from deploy.sampling.schedule import NoiseSchedule

if TYPE_CHECKING:
    from torch import nn


FIRST_STAGE_MARKS = (
    "encoder.0.conv_in.weight",
    "encoder.1.weight",
    "decoder.decoder.0.weight",
    "decoder.inr.imnet.layers.0.weight",
)

MARKS = (
    f"{UNET}input_blocks.0.0.weight",
    f"{UNET}middle_block.1.qkv.weight",
    f"{UNET}out.2.weight",
    *(f"first_stage_model.{name}" for name in FIRST_STAGE_MARKS),
)

NESTED: Mapping[str, type[Any]] = {"unet": UNetConfig, "first_stage": FirstStageConfig}

FIELDS: tuple[str, ...] = (
    *(field.name for field in fields(LatentConfig) if field.name not in NESTED),
    *(f"{part}.{field.name}" for part, cls in NESTED.items() for field in fields(cls)),
)

TRAINING_ONLY = ("dropout", "use_checkpoint")


@dataclass(frozen=True)
class Published:
    """What the weights do not reveal of a published model: sides of its training, ends of its schedule.

    `lr_share`: the low-resolution image's side, as a part of the latent's.
    """

    latent_side: int
    lr_share: float
    linear_start: float
    linear_end: float


# The encoders of the face and tower models return a posterior, those of the natural images do not.
WITH_POSTERIOR = Published(latent_side=32, lr_share=0.5, linear_start=1e-4, linear_end=0.015)

WITHOUT_POSTERIOR = Published(latent_side=48, lr_share=1.0, linear_start=0.0015, linear_end=0.0155)

GENERATION = Published(latent_side=64, lr_share=1.0, linear_start=0.0015, linear_end=0.0195)


def marks_of(names: Mapping[str, Shape]) -> tuple[str, ...]:
    """The names by which a checkpoint of this family is known: with diffusion, or the auto-encoder alone."""
    whole = any(name.startswith(("model.", "first_stage_model.")) for name in names)
    return MARKS if whole else FIRST_STAGE_MARKS


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    """The configuration and schedule, each value with its source."""
    read, first_levels, unet_levels = _read(stored)
    schedule = None if stored.betas is None else NoiseSchedule.from_betas(stored.betas)
    if stored.betas is not None:
        read["timesteps"] = int(stored.betas.size)
        # Short decimals that round to the stored values: the authors' own numbers.
        read["linear_start"], read["linear_end"] = float(str(stored.betas[0])), float(str(stored.betas[-1]))
    resolved = resolve(stored, read, settings, _assumed(read, settings))
    values = resolved.values
    levels = len(values["first_stage.ch_mult"])
    sizes = [values["first_stage.resolution"] >> level for level in range(levels)]
    resolved.add_attention("first_stage.attn_resolutions", sizes, first_levels)
    if values["kind"] != "first-stage":
        rates = [1 << level for level in range(len(values["unet.channel_mult"]))]
        resolved.add_attention("unet.attention_resolutions", rates, unet_levels)
    schedule, resolved.sources["schedule"] = schedule_of(stored, settings, schedule, resolved)
    return Detection(config=config_from_values(values), sources=resolved.sources, schedule=schedule)


def _read(stored: Stored) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """The fields that shapes reveal, and the levels with attention of the auto-encoder and of the U-Net."""
    first_stage, first_levels = first_stage_from_shapes(stored, first_stage_prefix(stored))
    read: dict[str, Any] = {f"first_stage.{name}": value for name, value in first_stage.items()}
    kind: Kind = "first-stage"
    unet_levels: tuple[int, ...] = ()
    if f"{UNET}input_blocks.0.0.weight" in stored.shapes:
        unet, unet_levels = unet_from_shapes(stored)
        read |= {f"unet.{name}": value for name, value in unet.items()}
        kind = "super-resolution" if unet["in_channels"] > unet["out_channels"] else "generation"
        read["channels"] = unet["out_channels"]
    read["kind"] = kind
    read["conditioning_key"] = "concat" if kind == "super-resolution" else None
    return read, first_levels, unet_levels


def _assumed(read: Mapping[str, Any], settings: list[Settings]) -> dict[str, Any]:
    """Values for what the weights do not reveal; sizes follow from those that are given."""
    kind = read["kind"]
    published = WITH_POSTERIOR if read["first_stage.double_z"] else WITHOUT_POSTERIOR
    if kind == "generation":
        published = GENERATION
    stride = 1 << (len(read["first_stage.ch_mult"]) - 1)
    latent_side = _latent_side(settings, stride) or published.latent_side
    side = latent_side * stride
    assumed = {
        f"{part}.{field.name}": field.default
        for part, cls in NESTED.items()
        for field in fields(cls)
        if field.default is not MISSING and (part != "unet" or kind != "first-stage")
    }
    assumed |= {"c_encode": True, "scale_by_std": True, "timesteps": 1000}
    assumed |= {"linear_start": published.linear_start, "linear_end": published.linear_end}
    channels = _channels(read, "first_stage.ch", "first_stage.ch_mult")
    assumed |= {"first_stage.resolution": side, "first_stage.norm_groups": divisor(32, channels)}
    if kind != "first-stage":
        widths = _channels(read, "unet.model_channels", "unet.channel_mult")
        assumed |= {"unet.norm_groups": divisor(32, widths), "unet.num_head_channels": divisor(32, widths)}
        assumed |= {"image_size": latent_side, "unet.image_size": latent_side, "default_output_size": side}
    if kind == "super-resolution":
        assumed |= {"inp_size": side, "lr_size": max(1, int(latent_side * published.lr_share))}
    # These two are resolved by level instead.
    return {name: value for name, value in assumed.items() if not name.endswith("attn_resolutions")}


def _latent_side(settings: list[Settings], stride: int) -> int | None:
    """The side of the training's latents, from whichever size a configuration gives."""
    for setting in settings:
        for name, pixels in (("image_size", 1), ("inp_size", stride), ("first_stage.resolution", stride)):
            value = setting.values.get(name)
            if type(value) is int and value >= pixels:
                return value // pixels
    return None


def _channels(read: Mapping[str, Any], base: str, factors: str) -> list[int]:
    return [read[base], *(read[base] * factor for factor in read[factors])]


def config_from_values(values: Mapping[str, Any]) -> LatentConfig:
    """The configuration from its fields, those of the parts named as `unet.model_channels`."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        part, dot, key = name.partition(".")
        if dot:
            nested.setdefault(part, {})[key] = value
        else:
            nested[name] = value
    return latent_config_from_mapping(nested)


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    """What the authors' YAML file says, of a diffusion model or of an auto-encoder alone.

    `scale_factor` is left out: it is measured in training, and only the checkpoint has the right one (quirk 16).
    """
    params = section(label, mapping, "model", "params")
    first = params if "ddconfig" in params else section(label, params, "first_stage_config", "params")
    if "ddconfig" not in first:
        raise ConfigError(
            f"{label} is no configuration of the latent family: it has no ddconfig. Pass that family's YAML file."
        )
    values = {name: value for name, value in params.items() if name in FIELDS and not isinstance(value, Mapping)}
    parts = {
        "unet": [section(label, params, "unet_config", "params")],
        "first_stage": [section(label, first, "ddconfig"), section(label, first, "liifconfig")],
    }
    for part, sections in parts.items():
        for entries in sections:
            keys = [name.partition(".")[2] for name in FIELDS if name.startswith(f"{part}.")]
            refuse_unknown(f"{label}, {part}", entries, (*keys, *TRAINING_ONLY))
            values |= {f"{part}.{name}": value for name, value in entries.items() if name in keys}
    data = section(label, mapping, "data", "params", "train", "params")
    if "lr_size" in data:
        values["lr_size"] = data["lr_size"]
    return Settings(source="config", label=label, values=values)


def settings_from_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that `as_mapping` wrote, those of the parts as `unet.model_channels`."""
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name in NESTED and isinstance(value, Mapping):  # as_mapping keeps the parts nested
            values |= {f"{name}.{key}": entry for key, entry in value.items()}
        elif value is not None:
            values[name] = value
    return values


def scale_range(config: LatentConfig) -> tuple[float, float] | None:
    """The magnifications seen in training, up to the largest output size; None without a low-resolution input."""
    if config.lr_size is None or config.default_output_size is None:
        return None
    return (1.0, config.default_output_size / config.lr_size)


def build(config: LatentConfig) -> "nn.Module":
    """The network; under `torch.device("meta")` its parameters take no memory."""
    from deploy.families.latent.first_stage import FirstStage
    from deploy.families.latent.network import LatentNetwork

    return FirstStage(config.first_stage) if config.kind == "first-stage" else LatentNetwork(config)


def first_stage_prefix(stored: Stored) -> str:
    """What stands before the auto-encoder's names: nothing if it was saved alone."""
    inside = any(name.startswith("first_stage_model.") for name in stored.shapes)
    return "first_stage_model." if inside else ""


def first_stage_from_shapes(stored: Stored, prefix: str) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of `FirstStageConfig` that shapes reveal, and the encoder's levels with attention."""
    encoder, decoder = f"{prefix}encoder.0.", f"{prefix}decoder."
    ch, in_channels = stored.shape(f"{encoder}conv_in.weight", 4)[:2]
    z_channels = stored.shape(f"{decoder}decoder.0.weight", 4)[1]
    levels = stored.numbers_after(f"{encoder}down.")
    widths = [stored.shape(f"{encoder}down.{level}.block.0.conv1.weight", 4)[0] for level in levels]
    blocks = [len(stored.numbers_after(f"{encoder}down.{level}.block.")) for level in levels]
    attention = [level for level in levels if f"{encoder}down.{level}.attn.0.q.weight" in stored.shapes]
    perceptron = f"{decoder}inr.imnet.layers."
    layers = [stored.shape(f"{perceptron}{n}.weight", 2) for n in stored.numbers_after(perceptron)]
    finest = widths[0] if widths else ch
    read = {
        "double_z": stored.shape(f"{prefix}encoder.1.weight", 4)[0] == 2 * z_channels,
        "z_channels": z_channels,
        "ch": ch,
        "ch_mult": tuple(max(1, width // ch) for width in widths),
        "num_res_blocks": stored.common_count("the encoder", blocks),
        "in_channels": in_channels,
        "out_ch": layers[-1][0],
        "hidden_list": tuple(width for width, _ in layers[:-1]),
        # Inputs of the perceptron: features, two relative coordinates, and with cells two more.
        "cell_decode": layers[0][1] == finest + 4,
    }
    return read, tuple(attention)
