"""The hyper-parameters of an SR3 network, under the names the authors' configuration files use."""

from dataclasses import dataclass

from deploy.families.pixel_unet.config import UnetConfig


@dataclass(frozen=True, kw_only=True)
class Sr3Config(UnetConfig):
    """One SR3 network. The defaults are the published one from 16 to 128 pixels (97.8 M parameters)."""

    scale: float = 8.0
    """The one magnification of training."""

    def __post_init__(self) -> None:
        self.refuse("SR3", [] if self.scale > 1 else [f"scale must be above 1, got {self.scale}"])


PUBLISHED: dict[str, Sr3Config] = {
    "16 to 128": Sr3Config(),
    "64 to 512": Sr3Config(
        channel_multiplier=(1, 2, 4, 8, 16), attn_res=(), res_blocks=1, norm_groups=16, image_size=512
    ),
}
"""The checkpoints that were published, as of commit 01d27a7c of the implementation."""
