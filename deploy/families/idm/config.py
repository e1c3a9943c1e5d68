"""The hyper-parameters of an IDM network, under the names the authors' configuration files use."""

from dataclasses import dataclass

from deploy.families.pixel_unet.config import UnetConfig


@dataclass(frozen=True, kw_only=True)
class IdmConfig(UnetConfig):
    """One IDM network. The defaults are the published model (16 to 128 pixels, 116.6 M stored parameters)."""

    implicit_hidden: int = 256
    n_resblocks: int = 16
    n_feats: int = 64
    res_scale: float = 1.0
    s_max: float = 8.0
    """Largest magnification seen in training; the scaling factor is (w - w_lr) / ((s_max - 1) * w_lr)."""

    def __post_init__(self) -> None:
        problems = [] if self.s_max > 1 else [f"s_max must be above 1, got {self.s_max}"]
        counts = {name: getattr(self, name) for name in ("implicit_hidden", "n_resblocks", "n_feats")}
        self.refuse("IDM", problems, **counts)
