"""The hyper-parameters of the U-Net, under the names that the authors' configuration files use."""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.errors import ConfigError

LIMITS: Mapping[str, tuple[float, float]] = {
    "image_size": (1, 1 << 14),
    "inner_channel": (2, 1 << 14),
    "channel_multiplier": (1, 256),
    "levels": (1, 12),
    "attn_res": (1, 1 << 14),
    "out_channel": (1, 64),
    "res_blocks": (1, 256),
}
"""Of the U-Net's numbers in a bundle that is run; see `deploy.families.contract.Family`."""


ATTENTION_AGAINST_CONVOLUTION = 1.6
"""How many times as long a multiplication of attention takes as one of a convolution, softmax included: 1.4 to 1.9 on
ONNX Runtime, in the packaged and the published network (docs/measurements.md, large pictures in tiles)."""


@dataclass(frozen=True, kw_only=True)
class UnetConfig:
    """One U-Net. The defaults are those of the published networks from 16 to 128 pixels."""

    in_channel: int = 6
    out_channel: int = 3
    inner_channel: int = 64
    channel_multiplier: tuple[int, ...] = (1, 2, 4, 8, 8)
    attn_res: tuple[int, ...] = (16,)
    res_blocks: int = 2
    norm_groups: int = 32
    image_size: int = 128

    def refuse(self, name: str, problems: list[str], **others: int) -> None:
        """A ConfigError of the family `name` with everything that is impossible, if anything is.

        problems: of the family's own fields; others: those of them that must be at least 1.
        """
        counts = [
            ("inner_channel", self.inner_channel),
            ("res_blocks", self.res_blocks),
            ("norm_groups", self.norm_groups),
            ("image_size", self.image_size),
            *others.items(),
            *(("channel_multiplier", value) for value in self.channel_multiplier),
        ]
        found = [f"{field} must be at least 1, got {value}" for field, value in counts if value < 1]
        if not self.channel_multiplier:
            found.append("channel_multiplier is empty")
        if self.in_channel != 2 * self.out_channel:
            found.append(f"in_channel must be twice out_channel, got {self.in_channel} and {self.out_channel}")
        if self.inner_channel % 2:
            found.append(f"inner_channel must be even for its sine and cosine halves, got {self.inner_channel}")
        found += [
            f"norm_groups {self.norm_groups} does not divide {channels} channels"
            for channels in sorted(set(self.level_channels))
            if self.norm_groups >= 1 and channels % self.norm_groups
        ]
        found += problems
        if found:
            raise ConfigError(f"the {name} configuration is impossible: {'; '.join(found)}.")

    @property
    def levels(self) -> int:
        """Number of resolutions of the U-Net; level k works at ceil(size / 2^k)."""
        return len(self.channel_multiplier)

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.inner_channel * multiplier for multiplier in self.channel_multiplier)

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels with attention: fixed by the training size in the configuration, whatever the actual size."""
        return tuple(level for level in range(self.levels) if self.image_size // 2**level in self.attn_res)

    @property
    def pixels_of_equal_attention(self) -> float:
        """The pixels of a picture of which attention takes as long as all else, by the multiplications of both.

        Attention's grow with the square of the pixels: 600 000 in the packaged network, where a pixel takes 240 000 in
        convolutions, and 0.25 in attention for each pixel of the picture. Below each level there is one block fewer
        than above it, of two 3x3 convolutions; above, one of the two reads the joined channels.
        """
        below, above = self.res_blocks, self.res_blocks + 1
        convolutions = sum(
            (18 * below + 27 * above) * channels**2 / float(4**level)
            for level, channels in enumerate(self.level_channels)
        )
        blocks = dict.fromkeys(self.attention_levels, below + above)
        middle = self.levels - 1
        blocks[middle] = blocks.get(middle, 0) + 1
        attention = sum(count * 2 * self.level_channels[level] / float(16**level) for level, count in blocks.items())
        return convolutions / (ATTENTION_AGAINST_CONVOLUTION * attention)
