"""How diffusers keeps LDM-SR: other names, attention in pieces, and configurations whose left-out keys have defaults.

Read as data; the classes named are those of diffusers 0.42, whose defaults these are.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from deploy.errors import CheckpointError, ConfigError
from deploy.families.detection import Settings, Shape
from deploy.families.folders import Array, Assembled, Part, PipelineFolder
from deploy.sampling.schedule import NoiseSchedule

UNET, FIRST_STAGE = "model.diffusion_model", "first_stage_model"


class UNetFile(msgspec.Struct):
    """`unet/config.json` of a UNet2DModel. What only one value is run of is declared with that value."""

    in_channels: int
    out_channels: int
    block_out_channels: list[int]
    down_block_types: list[Literal["DownBlock2D", "AttnDownBlock2D"]]
    sample_size: int | None = None
    layers_per_block: int = 2
    attention_head_dim: int | None = 8
    num_head_channels: int | None = None
    """The older name of the same."""
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    freq_shift: float = 0.0
    flip_sin_to_cos: Literal[True] = True
    mid_block_scale_factor: float = 1.0
    downsample_padding: Literal[1] = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    act_fn: Literal["silu", "swish"] = "silu"
    attn_norm_num_groups: int | None = None
    resnet_time_scale_shift: Literal["default"] = "default"
    add_attention: Literal[True] = True
    class_embed_type: None = None
    num_class_embeds: None = None


class FirstStageFile(msgspec.Struct):
    """`vqvae/config.json` of a VQModel. Its scaling factor is not used by the pipeline, nor here."""

    block_out_channels: list[int]
    up_block_types: list[Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]]
    in_channels: int = 3
    out_channels: int = 3
    layers_per_block: int = 1
    latent_channels: int = 3
    sample_size: int = 32
    num_vq_embeddings: int = 256
    norm_num_groups: int = 32
    vq_embed_dim: int | None = None
    act_fn: Literal["silu", "swish"] = "silu"
    norm_type: Literal["group"] = "group"
    mid_block_add_attention: Literal[True] = True
    lookup_from_codebook: Literal[False] = False


class SchedulerFile(msgspec.Struct):
    """`scheduler/scheduler_config.json`, of whatever scheduler: the noise schedule of the training.

    Steps, their spacing, the limits on estimates: those are the sampler's, which is chosen here, and not read.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear"] = "linear"
    trained_betas: list[float] | None = None
    prediction_type: Literal["epsilon"] = "epsilon"
    rescale_betas_zero_snr: Literal[False] = False


Struct = TypeVar("Struct", bound=msgspec.Struct)


def settings(configs: Mapping[str, Mapping[str, Any]], label: str) -> Settings:
    """What the three configurations say; a value that the family does not run is refused by its name."""
    unet = _converted(configs["unet"], UNetFile, f"{label}/unet/config.json")
    first = _converted(configs["vqvae"], FirstStageFile, f"{label}/vqvae/config.json")
    scheduler = _converted(configs["scheduler"], SchedulerFile, f"{label}/scheduler/scheduler_config.json")
    head = unet.num_head_channels or unet.attention_head_dim
    if head is None:
        raise ConfigError(
            f"{label}/unet/config.json: attention_head_dim is null, one head of all channels, and such a U-Net is not "
            "run; LDM-SR as published has heads of 32."
        )
    if (unet.freq_shift, unet.mid_block_scale_factor) != (0, 1):
        raise ConfigError(
            f"{label}/unet/config.json: freq_shift is {unet.freq_shift:g} and mid_block_scale_factor "
            f"{unet.mid_block_scale_factor:g}, and only 0 and 1 are run."
        )
    if unet.attn_norm_num_groups not in (None, unet.norm_num_groups):
        raise ConfigError(
            f"{label}/unet/config.json: attn_norm_num_groups is {unet.attn_norm_num_groups}, and only norm_num_groups, "
            f"{unet.norm_num_groups}, is run."
        )
    rates = [1 << level for level, kind in enumerate(unet.down_block_types) if kind.startswith("Attn")]
    finest_last = list(reversed(first.up_block_types))
    sizes = [first.sample_size >> level for level, kind in enumerate(finest_last) if kind.startswith("Attn")]
    values: dict[str, Any] = {
        "unet.in_channels": unet.in_channels,
        "unet.out_channels": unet.out_channels,
        **_widths("unet.model_channels", "unet.channel_mult", unet.block_out_channels, label),
        "unet.num_res_blocks": unet.layers_per_block,
        "unet.num_head_channels": head,
        "unet.norm_groups": unet.norm_num_groups,
        "unet.attention_resolutions": rates,
        "norm_epsilon": unet.norm_eps,
        "first_stage.in_channels": first.in_channels,
        "first_stage.out_ch": first.out_channels,
        **_widths("first_stage.ch", "first_stage.ch_mult", first.block_out_channels, label),
        "first_stage.num_res_blocks": first.layers_per_block,
        "first_stage.z_channels": first.latent_channels,
        "first_stage.embed_dim": first.latent_channels if first.vq_embed_dim is None else first.vq_embed_dim,
        "first_stage.n_embed": first.num_vq_embeddings,
        "first_stage.resolution": first.sample_size,
        "first_stage.norm_groups": first.norm_num_groups,
        "first_stage.attn_resolutions": sizes,
        "timesteps": scheduler.num_train_timesteps,
    }
    if unet.sample_size is not None:
        values |= {"unet.image_size": unet.sample_size, "image_size": unet.sample_size}
    return Settings(source="config", label=label, values=values, schedules={"schedule": _schedule(scheduler, values)})


def _schedule(file: SchedulerFile, values: dict[str, Any]) -> NoiseSchedule:
    if file.trained_betas is not None:
        values["timesteps"] = len(file.trained_betas)
        return NoiseSchedule.from_betas(np.array(file.trained_betas, np.float32))
    kind = "linear" if file.beta_schedule == "linear" else "sqrtlinear"
    values["linear_start"], values["linear_end"] = file.beta_start, file.beta_end
    return NoiseSchedule.from_kind(kind, file.num_train_timesteps, file.beta_start, file.beta_end)


def _converted(config: Mapping[str, Any], kind: type[Struct], label: str) -> Struct:
    try:
        return msgspec.convert(config, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{label} describes a network that is not run: {error}.") from error


def _widths(base: str, factors: str, widths: Sequence[int], label: str) -> dict[str, Any]:
    if not widths or min(widths) < 1 or any(width % widths[0] for width in widths):
        raise ConfigError(f"{label}: block_out_channels {list(widths)} are not multiples of the first.")
    return {base: widths[0], factors: [width // widths[0] for width in widths]}


# --- Names ---------------------------------------------------------------------------------------------------

UNET_LAYERS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
"""Of a residual block of the U-Net."""

OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What attention was called when the published folder was made; diffusers renames it on reading."""

PLAIN_UNET = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def assembled(shapes: Mapping[str, Shape], found: Settings) -> dict[str, Assembled]:
    """The tensors of the published network by name, from those of a folder with these shapes."""
    groups: dict[str, dict[str, str]] = {}  # published name -> part of it ("" if whole) -> name in the folder
    for name in shapes:
        part, _, inside = name.partition(".")
        layer, _, kind = inside.rpartition(".")
        for old, new in OLDER.items():
            layer = re.sub(rf"(attentions\.\d+)\.{old}$", rf"\1.{new}", layer)
        published = (_unet_name if part == "unet" else _first_stage_name)(layer, shapes)
        if published is not None:
            target, piece = published
            groups.setdefault(f"{target}.{kind}", {})[piece] = name
    heads = int(found.values["unet.num_head_channels"])
    return {name: _assembled(name, pieces, shapes, heads) for name, pieces in groups.items()}


def _assembled(name: str, pieces: Mapping[str, str], shapes: Mapping[str, Shape], head: int) -> Assembled:
    if set(pieces) == {""}:
        source = pieces[""]
        shape = _published_shape(name, shapes[source])
        return Assembled(pieces=(source,), shape=shape, make=lambda arrays: arrays[0])
    missing = [part for part in "qkv" if part not in pieces]
    if missing:
        raise CheckpointError(
            f"The folder has {next(iter(pieces.values()))} but nothing for {', '.join(missing)} beside it; the "
            "download is incomplete, repeat it."
        )
    sources = tuple(pieces[part] for part in "qkv")
    channels, *rest = shapes[sources[0]]
    if any(shapes[source] != shapes[sources[0]] for source in sources) or channels % head:
        found = ", ".join(f"{source} {list(shapes[source])}" for source in sources)
        raise CheckpointError(f"The folder's {found} do not make one attention with heads of {head}.")
    return Assembled(
        pieces=sources, shape=_published_shape(name, (3 * channels, *rest)), make=_joined_by_head(channels, head)
    )


def _joined_by_head(channels: int, head: int) -> Callable[[Sequence[Array]], Array]:
    """Queries, keys and values of one head after the other, as the published network has them in one layer."""

    def joined(arrays: Sequence[Array]) -> Array:
        of_heads = [array.reshape(channels // head, head, -1) for array in arrays]
        return np.concatenate(of_heads, axis=1)

    return joined


def _published_shape(name: str, shape: Shape) -> Shape:
    """Layers of attention are convolutions of one pixel there: along a line in the U-Net, in the plane beside it."""
    ones = 1 if ".qkv." in name or (".proj_out." in name and name.startswith(UNET)) else 2
    is_attention = re.search(r"\.(qkv|proj_out|[qkv])\.weight$", name) is not None
    return (*shape[:2], *(1,) * ones) if is_attention else shape


def _unet_name(layer: str, shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """The published name of a layer, and which part of it the folder's is."""
    if layer in PLAIN_UNET:
        return f"{UNET}.{PLAIN_UNET[layer]}", ""
    if match := _MIDDLE.fullmatch(layer):
        kind, number, rest = match.groups()
        place = f"{UNET}.middle_block.{1 if kind == 'attentions' else 2 * int(number)}"
        return _in_unet_block(place, kind, rest)
    if not (match := _BLOCK.fullmatch(layer)):
        return None
    way, level, kind, number, rest = match.groups()
    if way == "down":
        each = _count(shapes, "unet.down_blocks.0.resnets.")
        entry = 1 + int(level) * (each + 1) + (each if kind == "downsamplers" else int(number))
        place = f"{UNET}.input_blocks.{entry}"
        if kind == "downsamplers":
            return (f"{place}.0.op", "") if rest == "conv" else None
    else:
        each = _count(shapes, "unet.up_blocks.0.resnets.")
        entry = int(level) * each + (each - 1 if kind == "upsamplers" else int(number))
        place = f"{UNET}.output_blocks.{entry}"
        if kind == "upsamplers":
            attended = any(name.startswith(f"unet.up_blocks.{level}.attentions.") for name in shapes)
            return (f"{place}.{2 if attended else 1}.conv", "") if rest == "conv" else None
    return _in_unet_block(f"{place}.{1 if kind == 'attentions' else 0}", kind, rest)


def _in_unet_block(place: str, kind: str, rest: str) -> tuple[str, str] | None:
    if kind == "resnets":
        return (f"{place}.{UNET_LAYERS[rest]}", "") if rest in UNET_LAYERS else None
    names = {"group_norm": ("norm", ""), "to_out.0": ("proj_out", "")} | {f"to_{p}": ("qkv", p) for p in "qkv"}
    return (f"{place}.{names[rest][0]}", names[rest][1]) if rest in names else None


def _first_stage_name(layer: str, shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    if layer in ("quantize.embedding", "quant_conv", "post_quant_conv"):
        return f"{FIRST_STAGE}.{layer}", ""
    half, _, inside = layer.partition(".")
    if half not in ("encoder", "decoder"):
        return None
    place = f"{FIRST_STAGE}.{half}"
    plain = {"conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out"}
    if inside in plain:
        return f"{place}.{plain[inside]}", ""
    if match := _MIDDLE.fullmatch(inside):
        kind, number, rest = match.groups()
        block = f"attn_{int(number) + 1}" if kind == "attentions" else f"block_{int(number) + 1}"
        return _in_first_stage_block(f"{place}.mid.{block}", kind, rest)
    if not (match := _BLOCK.fullmatch(inside)):
        return None
    way, level, kind, number, rest = match.groups()
    # Published levels count from the finest; the decoder of diffusers begins with the coarsest.
    number_of_level = int(level) if way == "down" else _count(shapes, "vqvae.decoder.up_blocks.") - 1 - int(level)
    place = f"{place}.{way}.{number_of_level}"
    if kind.endswith("samplers"):
        return (f"{place}.{kind.removesuffix('rs')}.conv", "") if rest == "conv" else None
    return _in_first_stage_block(f"{place}.{'attn' if kind == 'attentions' else 'block'}.{number}", kind, rest)


def _in_first_stage_block(place: str, kind: str, rest: str) -> tuple[str, str] | None:
    if kind == "resnets":
        names = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"conv_shortcut": "nin_shortcut"}
    else:
        names = {"group_norm": "norm", "to_out.0": "proj_out"} | {f"to_{part}": part for part in "qkv"}
    return (f"{place}.{names[rest]}", "") if rest in names else None


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    """How many numbers follow the prefix."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)})


FOLDER = PipelineFolder(
    pipeline="LDMSuperResolutionPipeline",
    parts={
        "unet": Part(classes=("UNet2DModel",)),
        "vqvae": Part(classes=("VQModel",)),
        "scheduler": Part(config="scheduler_config.json", weights=False),
    },
    settings=settings,
    assembled=assembled,
)
