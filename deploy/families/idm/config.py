"""The hyper-parameters of an IDM network, under the names the authors' configuration files use."""

from dataclasses import dataclass

from deploy.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class IdmConfig:
    """One IDM network. The defaults are the published model (16 to 128 pixels, 116.6 M stored parameters)."""

    in_channel: int = 6
    out_channel: int = 3
    inner_channel: int = 64
    channel_multiplier: tuple[int, ...] = (1, 2, 4, 8, 8)
    attn_res: tuple[int, ...] = (16,)
    res_blocks: int = 2
    norm_groups: int = 32
    image_size: int = 128
    implicit_hidden: int = 256
    n_resblocks: int = 16
    n_feats: int = 64
    res_scale: float = 1.0
    s_max: float = 8.0
    """Largest magnification seen in training; the scaling factor is (w - w_lr) / ((s_max - 1) * w_lr)."""

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be at least 1, got {value}"
            for name, value in (
                ("inner_channel", self.inner_channel),
                ("res_blocks", self.res_blocks),
                ("norm_groups", self.norm_groups),
                ("image_size", self.image_size),
                ("implicit_hidden", self.implicit_hidden),
                ("n_resblocks", self.n_resblocks),
                ("n_feats", self.n_feats),
                *(("channel_multiplier", value) for value in self.channel_multiplier),
            )
            if value < 1
        ]
        if not self.channel_multiplier:
            problems.append("channel_multiplier is empty")
        if self.in_channel != 2 * self.out_channel:
            problems.append(f"in_channel must be twice out_channel, got {self.in_channel} and {self.out_channel}")
        if self.inner_channel % 2:
            problems.append(f"inner_channel must be even for its sine and cosine halves, got {self.inner_channel}")
        problems += [
            f"norm_groups {self.norm_groups} does not divide {channels} channels"
            for channels in sorted(set(self.level_channels))
            if self.norm_groups >= 1 and channels % self.norm_groups
        ]
        if not self.s_max > 1:
            problems.append(f"s_max must be above 1, got {self.s_max}")
        if problems:
            raise ConfigError("the IDM configuration is impossible: " + "; ".join(problems) + ".")

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
