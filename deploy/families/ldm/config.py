"""The hyper-parameters of LDM-SR, without torch, so that the run time can read them from a bundle.

Names follow the authors' YAML file.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.errors import ConfigError
from deploy.families.compvis.config import (
    UNetConfig,
    not_positive,
    not_positive_tuple,
    raise_problems,
    unsplit_channels,
)
from deploy.families.detection import refuse_unknown
from deploy.images.sizes import Size

LR_CHANNELS = 3
"""Of the low-resolution picture, which stands behind the latent at the U-Net's input."""


@dataclass(frozen=True, kw_only=True)
class QuantizedConfig:
    """The auto-encoder, whose latents are entries of a codebook: `n_embed` vectors of `embed_dim` numbers."""

    embed_dim: int
    n_embed: int
    z_channels: int
    resolution: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...] = ()
    in_channels: int = 3
    out_ch: int = 3
    norm_groups: int = 32

    def __post_init__(self) -> None:
        """Refuses what no network can be built from, all problems at once."""
        sizes = ("embed_dim", "n_embed", "z_channels", "resolution", "ch", "num_res_blocks")
        problems = not_positive(self, *sizes, "in_channels", "out_ch", "norm_groups")
        problems += not_positive_tuple(self, "ch_mult")
        problems += not_positive_tuple(self, "attn_resolutions", may_be_empty=True)
        raise_problems("first-stage", problems or unsplit_channels(self))

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.ch * factor for factor in self.ch_mult)

    @property
    def map_channels(self) -> int:
        """Channels that the encoder returns."""
        return self.z_channels

    @property
    def stride(self) -> int:
        """Pixels of the picture per pixel of the latent, along one side: how many times the model enlarges."""
        return 1 << (len(self.ch_mult) - 1)

    def has_attention(self, level: int) -> bool:
        """Whether the blocks of this level are followed by attention."""
        return self.resolution >> level in self.attn_resolutions


@dataclass(frozen=True, kw_only=True)
class LdmConfig:
    """One model: a latent has the size of the low-resolution picture, and decodes to `first_stage.stride` times that.

    image_size: the side of the training's latents, hence of its low-resolution pictures. norm_epsilon: of the U-Net.
    """

    unet: UNetConfig
    first_stage: QuantizedConfig
    image_size: int = 64
    timesteps: int = 1000
    linear_start: float = 0.0015
    linear_end: float = 0.0155
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Refuses parts that do not fit together, all problems at once."""
        problems = not_positive(self, "timesteps", "image_size")
        ends = (self.linear_start, self.linear_end)
        if not all(type(end) is float for end in ends) or not 0 < ends[0] <= ends[1] < 1:
            problems.append(f"linear_start and linear_end must be fractions that rise, not {ends[0]!r}, {ends[1]!r}")
        if not isinstance(self.norm_epsilon, float) or not 0 < self.norm_epsilon < 1:
            problems.append(f"norm_epsilon must be a small positive number, not {self.norm_epsilon!r}")
        embed, unet = self.first_stage.embed_dim, self.unet
        if unet.out_channels != embed:
            problems.append(f"the U-Net makes {unet.out_channels} channels of a latent that has {embed}")
        if unet.in_channels != embed + LR_CHANNELS:
            problems.append(
                f"the U-Net takes {unet.in_channels} channels, super-resolution has {embed + LR_CHANNELS}: the "
                f"latent's {embed} and the low-resolution picture's {LR_CHANNELS}"
            )
        raise_problems("LDM-SR", problems)

    @property
    def scale(self) -> int:
        """How many times the model enlarges."""
        return self.first_stage.stride

    def padded(self, lr: Size) -> Size:
        """The low-resolution picture's size, rounded up to what the U-Net can halve: the size of the latent."""
        step = self.unet.stride
        return Size(*(-(-side // step) * step for side in lr))

    def enlarged(self, lr: Size) -> Size:
        """The size that the model itself makes of a low-resolution picture."""
        return Size(*(side * self.scale for side in lr))


NESTED: Mapping[str, type[Any]] = {"unet": UNetConfig, "first_stage": QuantizedConfig}

FIELDS: tuple[str, ...] = (
    *(field.name for field in dataclasses.fields(LdmConfig) if field.name not in NESTED),
    *(f"{part}.{field.name}" for part, cls in NESTED.items() for field in dataclasses.fields(cls)),
)
"""Every value of a configuration; those of the parts are called `unet.model_channels`."""


def config_from_values(values: Mapping[str, Any]) -> LdmConfig:
    """The configuration from its fields by the names of `FIELDS`."""
    refuse_unknown("The LDM-SR configuration", values, FIELDS)
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {part: {} for part in NESTED}
    for name, value in values.items():
        part, dot, key = name.partition(".")
        (nested[part] if dot else own)[key or name] = tuple(value) if isinstance(value, list) else value
    for part, cls in NESTED.items():
        fields = dataclasses.fields(cls)
        missing = [f.name for f in fields if f.default is dataclasses.MISSING and f.name not in nested[part]]
        if missing:
            raise ConfigError(f"The LDM-SR configuration lacks {', '.join(f'{part}.{name}' for name in missing)}.")
    return LdmConfig(**own, **{part: cls(**nested[part]) for part, cls in NESTED.items()})


def values_from_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration that was written with its parts nested, by the names of `FIELDS`."""
    values: dict[str, Any] = {}
    for name, value in record.items():
        if name in NESTED and isinstance(value, Mapping):
            values |= {f"{name}.{key}": entry for key, entry in value.items()}
        else:
            values[name] = value
    return values
