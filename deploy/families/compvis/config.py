"""The hyper-parameters of the U-Net, without torch, and how any configuration refuses what cannot be built.

Names follow the authors' YAML files, which is what a user has in hand.
"""

from dataclasses import dataclass
from typing import Protocol

from deploy.errors import ConfigError

PASSES = 3
"""Of back-projection on a decoded picture, each by the strength of data consistency (docs/measurements.md)."""


def raise_problems(what: str, problems: list[str]) -> None:
    """Raises one ConfigError with all problems, if there are any."""
    if problems:
        raise ConfigError(f"The {what} configuration is not possible: {'; '.join(problems)}.")


def not_positive(config: object, *names: str) -> list[str]:
    """The problems with fields that are no positive whole numbers, a sentence for each."""
    values = [(name, getattr(config, name)) for name in names]
    return [
        f"{name} must be a positive whole number, not {value!r}"
        for name, value in values
        if type(value) is not int or value < 1
    ]


def not_positive_tuple(config: object, *names: str, may_be_empty: bool = False) -> list[str]:
    """The problems with fields that are no tuples of positive whole numbers, a sentence for each."""
    problems = []
    for name in names:
        value = getattr(config, name)
        right = isinstance(value, tuple) and all(type(entry) is int and entry > 0 for entry in value)
        if not right or not (value or may_be_empty):
            problems.append(f"{name} must be a tuple of positive whole numbers, not {value!r}")
    return problems


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The latent diffusion U-Net. Attention sits where the downsampling RATE (1, 2, 4, ..) is listed.

    Rates that no level has are harmless and published ([16, 8] with rates up to 8; [12, 6] with none).
    The middle block always has attention.
    """

    image_size: int
    in_channels: int
    out_channels: int
    model_channels: int
    attention_resolutions: tuple[int, ...]
    num_res_blocks: int
    channel_mult: tuple[int, ...]
    num_head_channels: int = 32
    norm_groups: int = 32

    def __post_init__(self) -> None:
        """Refuses what no network can be built from, all problems at once."""
        sizes = ("image_size", "in_channels", "out_channels", "model_channels", "num_res_blocks")
        problems = not_positive(self, *sizes, "num_head_channels", "norm_groups")
        problems += not_positive_tuple(self, "channel_mult")
        problems += not_positive_tuple(self, "attention_resolutions", may_be_empty=True)
        if not problems:
            problems += self._channel_problems()
        raise_problems("U-Net", problems)

    def _channel_problems(self) -> list[str]:
        """Channel counts that do not split into norm groups or attention heads."""
        problems = []
        levels = len(self.channel_mult)
        if self.model_channels % 2:
            problems.append(f"model_channels must be even (sine and cosine), not {self.model_channels}")
        for channels in sorted({self.model_channels, *self.level_channels}):
            if channels % self.norm_groups:
                problems.append(f"{channels} channels do not split into {self.norm_groups} norm groups")
        attended = {self.level_channels[level] for level in range(levels) if self.has_attention(level)}
        for channels in sorted(attended | {self.level_channels[-1]}):
            if channels % self.num_head_channels:
                problems.append(f"{channels} channels do not split into heads of {self.num_head_channels}")
        return problems

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.model_channels * factor for factor in self.channel_mult)

    @property
    def stride(self) -> int:
        """What both sides of a latent must divide by."""
        return 1 << (len(self.channel_mult) - 1)

    def has_attention(self, level: int) -> bool:
        """Whether the residual blocks of this level (0 is the finest) are followed by attention."""
        return 1 << level in self.attention_resolutions


class AutoencoderSizes(Protocol):
    """What encoder and decoder ask of the configuration of an auto-encoder."""

    @property
    def in_channels(self) -> int:
        """Of the picture."""

    @property
    def ch(self) -> int:
        """Channels of the first convolution."""

    @property
    def ch_mult(self) -> tuple[int, ...]:
        """Channels of each level, in multiples of those."""

    @property
    def num_res_blocks(self) -> int:
        """Of each level of the encoder; the decoder has one more."""

    @property
    def norm_groups(self) -> int:
        """Of every normalisation."""

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""

    @property
    def map_channels(self) -> int:
        """Channels that the encoder returns."""

    def has_attention(self, level: int) -> bool:
        """Whether the blocks of this level are followed by attention."""


def unsplit_channels(config: AutoencoderSizes) -> list[str]:
    """The problems with channels of an auto-encoder that do not split into its norm groups, a sentence for each."""
    return [
        f"{channels} channels do not split into {config.norm_groups} norm groups"
        for channels in sorted({config.ch, *config.level_channels})
        if channels % config.norm_groups
    ]
