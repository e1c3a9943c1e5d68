"""The hyper-parameters of the latent family, without torch, so that the run time can read them from a bundle.

Names follow the authors' YAML files, which is what a user has in hand. `LatentConfig.as_mapping` and
`latent_config_from_mapping` are inverse to each other and speak JSON.
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.errors import ConfigError, SizeError
from deploy.families.compvis.config import (
    UNetConfig,
    not_positive,
    not_positive_tuple,
    raise_problems,
    unsplit_channels,
)

Kind = Literal["super-resolution", "generation", "first-stage"]
KINDS: tuple[Kind, ...] = ("super-resolution", "generation", "first-stage")


@dataclass(frozen=True, kw_only=True)
class FirstStageConfig:
    """The auto-encoder: convolutional encoder, decoder without upsampling, implicit decoder (LIIF)."""

    double_z: bool
    z_channels: int
    resolution: int
    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...] = ()
    in_channels: int = 3
    out_ch: int = 3
    dropout: float = 0.0  # of the training; inactive here
    hidden_list: tuple[int, ...] = (256, 256, 256, 256)
    cell_decode: bool = True
    local_ensemble: bool = True
    norm_groups: int = 32

    def __post_init__(self) -> None:
        """Refuses what no network can be built from, all problems at once."""
        sizes = ("z_channels", "resolution", "ch", "num_res_blocks", "in_channels", "out_ch", "norm_groups")
        problems = not_positive(self, *sizes) + not_positive_tuple(self, "ch_mult", "hidden_list")
        problems += not_positive_tuple(self, "attn_resolutions", may_be_empty=True)
        flags = ("double_z", "cell_decode", "local_ensemble")
        problems += [f"{name} must be true or false" for name in flags if type(getattr(self, name)) is not bool]
        raise_problems("first-stage", problems or unsplit_channels(self))

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.ch * factor for factor in self.ch_mult)

    @property
    def stride(self) -> int:
        """Pixels of the encoder's input per latent pixel, along one side."""
        return 1 << (len(self.ch_mult) - 1)

    @property
    def map_channels(self) -> int:
        """Channels that the encoder returns: mean and log-variance, or the latent itself."""
        return 2 * self.z_channels if self.double_z else self.z_channels

    def has_attention(self, level: int) -> bool:
        """Whether the encoder's blocks of this level are followed by attention; the decoder uses the last."""
        return self.resolution >> level in self.attn_resolutions


@dataclass(frozen=True, kw_only=True)
class LatentConfig:
    """One model of the latent family: super-resolution, generation, or the auto-encoder alone.

    The last three sizes are the training's: the low-resolution side `lr_size` is enlarged to `inp_size` before
    encoding, which gives a latent of side `image_size`. Neither of the first two is in the weights.
    """

    kind: Kind
    first_stage: FirstStageConfig
    unet: UNetConfig | None = None
    image_size: int | None = None
    channels: int | None = None
    inp_size: int | None = None
    lr_size: int | None = None
    default_output_size: int | None = None
    conditioning_key: str | None = None
    c_encode: bool = True
    timesteps: int = 1000
    linear_start: float = 0.0015
    linear_end: float = 0.0195
    scale_by_std: bool = True  # how the training set scale_factor, which the checkpoint holds

    def __post_init__(self) -> None:
        """Refuses parts that do not fit together, all problems at once."""
        problems = []
        if self.kind not in KINDS:
            problems.append(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if (self.unet is None) != (self.kind == "first-stage"):
            problems.append(f"kind {self.kind} goes {'with' if self.unet is None else 'without'} a U-Net")
        fields_needed: dict[str, tuple[str, ...]] = {"generation": ("image_size", "channels", "default_output_size")}
        fields_needed["super-resolution"] = (*fields_needed["generation"], "inp_size", "lr_size")
        problems += not_positive(self, "timesteps", *fields_needed.get(self.kind, ()))
        ends = (self.linear_start, self.linear_end)
        if not all(type(end) is float for end in ends) or not 0 < ends[0] <= ends[1] < 1:
            problems.append(f"linear_start and linear_end must be fractions that rise, not {ends[0]!r}, {ends[1]!r}")
        if not problems and self.unet is not None:
            problems += self._diffusion_problems(self.unet)
        raise_problems("latent model", problems)

    def _diffusion_problems(self, unet: UNetConfig) -> list[str]:
        """Contradictions between the U-Net, the auto-encoder and the conditioning."""
        problems = []
        z_channels = self.first_stage.z_channels
        if self.channels != z_channels or unet.out_channels != z_channels:
            numbers = f"channels {self.channels}, U-Net output {unet.out_channels}, auto-encoder {z_channels}"
            problems.append(f"the latent must have one number of channels ({numbers})")
        conditioned = self.kind == "super-resolution"
        expected = z_channels * (2 if conditioned else 1)
        if unet.in_channels != expected:
            problems.append(f"{self.kind} needs {expected} U-Net input channels, not {unet.in_channels}")
        key = "concat" if conditioned else None
        if self.conditioning_key != key:
            problems.append(f"{self.kind} needs conditioning_key {key}, not {self.conditioning_key}")
        if conditioned and not self.c_encode:
            problems.append("c_encode must be true: the condition is the encoded low-resolution image")
        if conditioned and self.inp_size != (self.image_size or 0) * self.first_stage.stride:
            numbers = f"inp_size {self.inp_size} is not {self.first_stage.stride} times image_size {self.image_size}"
            problems.append(f"the encoded input must have the latent's size ({numbers})")
        return problems

    def resized_size(self, height: int, width: int, *, squash: bool = False) -> tuple[int, int]:
        """Size (height, width) of the encoder's input for a low-resolution image, before padding.

        The training enlarges lr_size to inp_size; every other image is enlarged by the same factor, each side
        rounded to the nearest whole number (half up). The official code squashes it to inp_size square instead
        (quirk 6), which `squash` reproduces.
        """
        if self.inp_size is None or self.lr_size is None:
            raise ConfigError(
                "Only a super-resolution model has a low-resolution input; inp_size and lr_size are not set."
            )
        if min(height, width) < 1:
            raise SizeError(f"A low-resolution image of {width}x{height} pixels has nothing to enlarge.")
        if squash:
            return self.inp_size, self.inp_size
        grow, base = self.inp_size, self.lr_size
        return max(1, (2 * height * grow + base) // (2 * base)), max(1, (2 * width * grow + base) // (2 * base))

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of the encoder's input after padding: the latent then divides by the U-Net's stride."""
        step = self.first_stage.stride * (self.unet.stride if self.unet is not None else 1)
        rows, columns = self.resized_size(height, width)
        return math.ceil(rows / step) * step, math.ceil(columns / step) * step

    def covered(self, height: int, width: int) -> tuple[float, float]:
        """The part of the padded rows and columns that belongs to the image; (1, 1) on the training's square."""
        (rows, columns), (all_rows, all_columns) = self.resized_size(height, width), self.padded_size(height, width)
        return rows / all_rows, columns / all_columns

    def as_mapping(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return dataclasses.asdict(self)


def latent_config_from_mapping(values: Mapping[str, Any]) -> LatentConfig:
    """The configuration that `as_mapping` described; an unknown key is an error that names the nearest known."""
    merged = dict(values)
    first_stage = _typed(FirstStageConfig, "first_stage", merged.get("first_stage"))
    unet = merged.get("unet")
    merged["first_stage"] = first_stage
    merged["unet"] = None if unet is None else _typed(UNetConfig, "unet", unet)
    config: LatentConfig = _typed(LatentConfig, "latent model", merged)
    return config


def _typed(cls: type[Any], what: str, values: object) -> Any:
    """A dataclass from a mapping, with lists made tuples and every key accounted for."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"The {what} configuration must be a mapping of names to values, not {values!r}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(fields)}."
            raise ConfigError(f"The {what} configuration has an unknown key {key!r}{hint}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and values.get(n) is None]
    if missing:
        raise ConfigError(f"The {what} configuration lacks {', '.join(missing)}.")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
