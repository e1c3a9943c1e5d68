"""An IDM bundle at run time: what its graphs are fed, for a whole picture or for a window of one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import cast

import numpy as np

from deploy.families.contract import Graphs, NoiseOfShape, Subject
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.detect import config_from_values
from deploy.families.model import Growth
from deploy.families.pixel_unet.model import PixelModel
from deploy.families.pixel_unet.subject import PIXEL_VALUES, PixelSubject
from deploy.images.coordinates import axis_lookup, resize_index
from deploy.images.sizes import Size
from deploy.images.tiles import Window
from deploy.sampling.plan import SamplingRules
from engines.arrays import Array, Float32

VALUES = PIXEL_VALUES
"""As both pixel-space systems have them."""


def published_timesteps(timesteps: int, count: int) -> list[int]:
    """IDM's own DDIM grid and the timestep its last step leads to: 0, k, 2k, ... < T with k = T // count, descending.

    With T = 2000 and 4: 1500, 1000, 500, then 0, from which no step is made.
    """
    return list(range(0, timesteps, timesteps // count))[::-1]


SAMPLING = SamplingRules(integer_timesteps=False, clip=True, published_grid=published_timesteps)
"""The network is conditioned on the noise level itself, and its estimate is a picture in [-1, 1]."""


@lru_cache(maxsize=64)
def lookup_tables(size: Size, levels: int) -> Mapping[str, Array]:
    """The look-ups of the implicit layers: layer k goes from ceil(m / 2) to m = ceil(size / 2^(k-1)) per axis.

    Kept for the sizes that were asked for last, by whichever run.
    """
    tables: dict[str, Array] = {}
    for axis, count in zip(("row", "column"), size, strict=True):
        finer = count
        for level in range(1, levels):
            coarser = -(-finer // 2)
            lookup = axis_lookup(coarser, finer)
            tables[f"{axis}_index_{level}"] = lookup.index
            tables[f"{axis}_offset_{level}"] = lookup.relative
            finer = coarser
    return tables


LEAST_SIDE_OF_TILES = 256
LEAST_SIDES_OF_TRAINING = 2
"""Tiles that are made for speed have so many pixels a side at least, and so many times the side of training: 48 dB to
the whole picture were seen with 240 (docs/sizes-and-memory.md)."""

ENCODER_REACH_BLOCKS = 2
"""Convolutions per residual block of the encoder: each sees one more LR pixel on every side."""


class IdmModel(PixelModel):
    """An IDM bundle's networks. Pictures are float32 in [-1, 1], (batch, 3, height, width)."""

    sampling = SAMPLING

    def __init__(self, graphs: Graphs) -> None:
        config: IdmConfig = config_from_values(graphs.bundle.manifest.configured)
        super().__init__(graphs, config)
        self.s_max = config.s_max
        self.encoder_channels = config.n_feats
        self._growth = Growth(
            doubled_at=config.pixels_of_equal_attention,
            least_side=max(LEAST_SIDE_OF_TILES, LEAST_SIDES_OF_TRAINING * config.image_size),
        )
        # Head, residual blocks, closing convolution: the LR pixels around a window that its condition depends on.
        self._reach = 2 + ENCODER_REACH_BLOCKS * config.n_resblocks

    def scaler_from_size(self, lr_width: int, width: int) -> float:
        """The scaling factor (w - w_lr) / ((s_max - 1) * w_lr): 0 is no magnification, 1 the training maximum."""
        return (width - lr_width) / ((self.s_max - 1.0) * lr_width)

    def condition(self, lr: Float32, size: Size, window: Window, blend: float = 1.0) -> dict[str, Array]:
        """Everything about the picture that does not change from step to step, for one window of the output.

        blend: what the scaling factor is multiplied by. Of it and a small network follow s1 and s2, normalised, by
        which every implicit layer mixes generated features with those of the input: x*s1 + shift*s2.
        """
        axes = zip(lr.shape[2:], size, (window.top, window.left), (window.bottom, window.right), strict=True)
        crops, indices = [], []
        for count_in, count_out, first, last in axes:
            index = resize_index(count_in, count_out)[first:last]
            low = max(0, int(index[0]) - self._reach)
            crops.append(slice(low, min(count_in, int(index[-1]) + 1 + self._reach)))
            indices.append(index - low)
        factor = blend * self.scaler_from_size(lr.shape[3], size[1])
        scaler = np.full((lr.shape[0], 1), factor, dtype=np.float32)
        feeds: dict[str, Array] = {
            "lr": np.ascontiguousarray(lr[:, :, crops[0], crops[1]]),
            "row_index": indices[0],
            "column_index": indices[1],
            "scaler": scaler,
        }
        maps = self.graphs.run("encode", feeds)
        return {"scaler": scaler, **maps, **lookup_tables(window.size, self.levels)}

    # What the upscaler asks, see deploy.families.contract ------------------------------------------------------------

    @property
    def growth(self) -> Growth | None:
        """By the network's multiplications, on processors; on GPUs attention was not seen to take the time."""
        return None if self.graphs.choice.record.on_gpu else self._growth

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "IdmSubject":
        """The pictures on their way to `size`; this family's encoder draws nothing."""
        del posterior
        return IdmSubject(_lr=lr, _size=size, _model=self)

    def refusal_of_blend(self) -> str | None:
        """None: the network is told its magnification."""
        return None

    def blended(self, subject: Subject, blend: float) -> Subject:
        """The same pictures with another scaling factor."""
        return replace(cast(IdmSubject, subject), _blend=blend)

    def condition_bytes(self, window: Size, batch: int) -> int:
        """232 + 256 bytes per output pixel for the published network: shifts of every level, and the first map."""
        channels = [self.inner_channels, *self.level_channels[1:]]
        values: int = sum(c * prod(-(-side // 2**k) for side in window) for k, c in enumerate(channels))
        return 4 * batch * values

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Array]:
        """The condition of a black picture."""
        return self.condition(np.zeros((1, self.channels, *lr), np.float32), size, window)

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """What to say of a magnification past the largest of training; None up to it."""
        scale = size[1] / lr[1]
        if scale <= self.s_max:
            return None
        return (
            f"scale {scale:.4g} is beyond the trained 1 to {self.s_max:g} (scaling factor "
            f"{self.scaler_from_size(lr[1], size[1]):.3f}, trained 0 to 1): the network extrapolates"
        )


@dataclass(eq=False)
class IdmSubject(PixelSubject):
    """Low-resolution pictures (batch, 3, h, w) on their way to `size`."""

    _model: IdmModel
    _blend: float = 1.0

    def condition(self, window: Window) -> dict[str, Array]:
        """Everything about the pictures that does not change from step to step, for one window."""
        return self._model.condition(self._lr, self._size, window, self._blend)
