"""How checkpoints of LDM-SR and their configuration are read, under the names of CompVis' training code.

The U-Net lies below `model.`, its moving average below `model_ema.`, the auto-encoder below `first_stage_model.`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from deploy.errors import CheckpointError, ConfigError
from deploy.families.compvis.detect import UNET, schedule_of, unet_from_shapes
from deploy.families.detection import (
    Detection,
    Settings,
    Stored,
    divisor,
    refuse_unknown,
    resolve,
    section,
)
from deploy.families.ldm.config import FIELDS, LR_CHANNELS, NESTED, LdmConfig, config_from_values
from deploy.sampling.schedule import NoiseSchedule

if TYPE_CHECKING:
    from torch import nn


FIRST_STAGE = "first_stage_model."
CONDITION = "cond_stage_model."

MARKS = (
    f"{UNET}input_blocks.0.0.weight",
    f"{UNET}middle_block.1.qkv.weight",
    f"{UNET}out.2.weight",
    f"{FIRST_STAGE}decoder.conv_in.weight",
    f"{FIRST_STAGE}post_quant_conv.weight",
    f"{FIRST_STAGE}quantize.embedding.weight",
)

TRAINING_ONLY = ("double_z", "dropout", "use_checkpoint")
TRAINED_SIDE = 64
"""Side of the published training's latents."""


def detect(stored: Stored, settings: list[Settings]) -> Detection:
    """The configuration and schedule, each value with its source."""
    _refuse_other_tasks(stored)
    read, first_levels = _first_stage(stored)
    unet, unet_levels = unet_from_shapes(stored)
    read |= {f"unet.{name}": value for name, value in unet.items()}
    schedule = None if stored.betas is None else NoiseSchedule.from_betas(stored.betas)
    if stored.betas is not None:
        read["timesteps"] = int(stored.betas.size)
        # Short decimals that round to the stored values: the authors' own numbers.
        read["linear_start"], read["linear_end"] = float(str(stored.betas[0])), float(str(stored.betas[-1]))
    resolved = resolve(stored, read, settings, _assumed(read, settings))
    values = resolved.values
    levels = range(len(values["first_stage.ch_mult"]))
    resolved.add_attention(
        "first_stage.attn_resolutions", [values["first_stage.resolution"] >> level for level in levels], first_levels
    )
    rates = [1 << level for level in range(len(values["unet.channel_mult"]))]
    resolved.add_attention("unet.attention_resolutions", rates, unet_levels)
    schedule, resolved.sources["schedule"] = schedule_of(stored, settings, schedule, resolved)
    return Detection(config=config_from_values(values), sources=resolved.sources, schedule=schedule)


def _refuse_other_tasks(stored: Stored) -> None:
    """A CheckpointError for models of the same authors that make pictures of something else than a small picture."""
    taken = stored.shape(f"{UNET}input_blocks.0.0.weight", 4)[1]
    made = stored.shape(f"{UNET}out.2.weight", 4)[0]
    if taken == made + LR_CHANNELS and not any(name.startswith(CONDITION) for name in stored.shapes):
        return
    what = "makes pictures from noise" if taken == made else "is conditioned on something else"
    raise CheckpointError(
        f"{stored.path} is a latent diffusion model that {what}: its U-Net takes {taken} channels for a latent of "
        f"{made}, super-resolution takes {made + LR_CHANNELS} and no {CONDITION}*. Run it with its authors' code or "
        "with diffusers."
    )


def _first_stage(stored: Stored) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of `QuantizedConfig` that shapes reveal, and the decoder's levels with attention."""
    encoder, decoder = f"{FIRST_STAGE}encoder.", f"{FIRST_STAGE}decoder."
    ch, in_channels = stored.shape(f"{encoder}conv_in.weight", 4)[:2]
    levels = stored.numbers_after(f"{decoder}up.")
    widths = [stored.shape(f"{decoder}up.{level}.block.0.conv1.weight", 4)[0] for level in levels]
    blocks = [len(stored.numbers_after(f"{decoder}up.{level}.block.")) - 1 for level in levels]
    n_embed, embed_dim = stored.shape(f"{FIRST_STAGE}quantize.embedding.weight", 2)
    read = {
        "embed_dim": embed_dim,
        "n_embed": n_embed,
        "z_channels": stored.shape(f"{decoder}conv_in.weight", 4)[1],
        "ch": ch,
        "ch_mult": tuple(max(1, width // ch) for width in widths),
        "num_res_blocks": stored.common_count("the decoder", blocks),
        "in_channels": in_channels,
        "out_ch": stored.shape(f"{decoder}conv_out.weight", 4)[0],
    }
    attention = tuple(level for level in levels if f"{decoder}up.{level}.attn.0.q.weight" in stored.shapes)
    return {f"first_stage.{name}": value for name, value in read.items()}, attention


def _assumed(read: Mapping[str, Any], settings: list[Settings]) -> dict[str, Any]:
    """Values for what the weights do not reveal; sizes follow from those that are given."""
    stride = 1 << (len(read["first_stage.ch_mult"]) - 1)
    side = _latent_side(settings, stride)
    assumed: dict[str, Any] = {
        f"{part}.{field.name}": field.default
        for part, cls in NESTED.items()
        for field in fields(cls)
        if field.default is not MISSING
    }
    assumed |= {field.name: field.default for field in fields(LdmConfig) if field.default is not MISSING}
    channels = [read["first_stage.ch"], *(read["first_stage.ch"] * factor for factor in read["first_stage.ch_mult"])]
    assumed |= {"first_stage.resolution": side * stride, "first_stage.norm_groups": divisor(32, channels)}
    widths = [read["unet.model_channels"] * factor for factor in (1, *read["unet.channel_mult"])]
    assumed |= {"unet.norm_groups": divisor(32, widths), "unet.num_head_channels": divisor(32, widths)}
    assumed |= {"image_size": side, "unet.image_size": side}
    # These two are resolved by level instead.
    by_level = ("first_stage.attn_resolutions", "unet.attention_resolutions")
    return {name: value for name, value in assumed.items() if name not in by_level}


def _latent_side(settings: list[Settings], stride: int) -> int:
    """The side of the training's latents, from whichever size a configuration gives."""
    for setting in settings:
        for name, pixels in (("image_size", 1), ("unet.image_size", 1), ("first_stage.resolution", stride)):
            value = setting.values.get(name)
            if type(value) is int and value >= pixels:
                return value // pixels
    return TRAINED_SIDE


def settings_from_mapping(mapping: Mapping[str, Any], label: str) -> Settings:
    """What the authors' YAML file says."""
    params = section(label, mapping, "model", "params")
    first = section(label, params, "first_stage_config", "params")
    if "ddconfig" not in first or "n_embed" not in first:
        raise ConfigError(
            f"{label} is no configuration of LDM-SR: it has no first stage with n_embed and ddconfig. Pass that "
            "model's YAML file."
        )
    values = {name: value for name, value in params.items() if name in FIELDS and not isinstance(value, Mapping)}
    values |= {f"first_stage.{name}": first[name] for name in ("embed_dim", "n_embed") if name in first}
    parts = {
        "unet": section(label, params, "unet_config", "params"),
        "first_stage": section(label, first, "ddconfig"),
    }
    for part, entries in parts.items():
        keys = [name.partition(".")[2] for name in FIELDS if name.startswith(f"{part}.")]
        refuse_unknown(f"{label}, {part}", entries, (*keys, *TRAINING_ONLY))
        values |= {f"{part}.{name}": value for name, value in entries.items() if name in keys}
    return Settings(source="config", label=label, values=values)


def build(config: LdmConfig) -> "nn.Module":
    """The network; under `torch.device("meta")` its parameters take no memory."""
    from deploy.families.ldm.network import LdmNetwork

    return LdmNetwork(config)
