"""An SR3 bundle at run time: what its graphs are fed, for a whole picture or for a window of one."""

from dataclasses import dataclass
from math import prod

import numpy as np

from deploy.families.contract import Graphs, NoiseOfShape
from deploy.families.pixel_unet.model import PixelModel
from deploy.families.pixel_unet.subject import PixelSubject
from deploy.families.sr3.condition import condition_of_pixels, doubling_tables, pixels_of_values
from deploy.families.sr3.config import Sr3Config
from deploy.families.sr3.detect import config_from_values
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.sampling.plan import SamplingRules
from engines.arrays import Array, Float32

SAMPLING = SamplingRules(integer_timesteps=False, clip=True, published_grid=None)
"""Conditioned on the noise level itself; the estimate is a picture in [-1, 1]; the authors sample by DDPM alone."""


class Sr3Model(PixelModel):
    """An SR3 bundle's networks. Pictures are float32 in [-1, 1], (batch, 3, height, width)."""

    sampling = SAMPLING
    notice_of_depth = (
        "this network was trained on pictures of 8 bits: the finer levels of the input are rounded before it sees them"
    )

    def __init__(self, graphs: Graphs) -> None:
        config: Sr3Config = config_from_values(graphs.bundle.manifest.configured)
        super().__init__(graphs, config)
        self._scale = config.scale

    def condition(self, lr: Float32, size: Size, window: Window) -> dict[str, Array]:
        """Everything about the picture that does not change from step to step, for one window of the output."""
        cond = condition_of_pixels(pixels_of_values(lr), size, window)
        maps = self.graphs.run("condition", {"cond": cond}) if "condition" in self.graphs else {"cond": cond}
        return {**maps, **doubling_tables(window.size, self.levels)}

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "Sr3Subject":
        """The pictures on their way to `size`; this family's condition draws nothing."""
        del posterior
        return Sr3Subject(_lr=lr, _size=size, _model=self)

    def condition_bytes(self, window: Size, batch: int) -> int:
        """Of the condition's half of the first convolution; look-ups are small."""
        return 4 * batch * self.inner_channels * prod(window)

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Array]:
        """The condition of a black picture."""
        return self.condition(np.full((1, self.channels, *lr), -1.0, np.float32), size, window)

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What to say of any magnification but the one of training."""
        if size == tuple(round(self._scale * side) for side in lr):
            return None
        return (
            f"scale {size[1] / lr[1]:.4g} is beyond the trained {self._scale:g}: this network knows that one "
            "magnification, any other is extrapolated"
        )


@dataclass(eq=False)
class Sr3Subject(PixelSubject):
    """Low-resolution pictures (batch, 3, h, w) on their way to `size`."""

    _model: Sr3Model

    def condition(self, window: Window) -> dict[str, Array]:
        """Everything about the pictures that does not change from step to step, for one window."""
        return self._model.condition(self._lr, self._size, window)
