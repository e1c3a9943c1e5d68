"""An IDM bundle at run time: what its graphs are fed, for a whole picture or for a window of one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import cast

import numpy as np

from deploy.families.contract import Graphs, NoiseOfShape, Subject
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.detect import config_from_values
from deploy.families.model import Model
from deploy.images.coordinates import axis_lookup, resize_index
from deploy.images.resize import resize_region
from deploy.images.sizes import Size
from deploy.images.tiles import Window, strips_of_rows
from deploy.images.values import NetworkValues, ValueRule
from deploy.sampling.plan import PlanRow, SamplingRules
from deploy.sampling.turns import Turn, turned
from engines.arrays import Array, Float32
from engines.contract import Memory


def _levels() -> NetworkValues:
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.float32(0.5)) / np.float32(0.5)


def _level_from_value(values: NetworkValues) -> NetworkValues:
    unit = (np.clip(values, -1.0, 1.0) + np.float32(1)) / np.float32(2)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)  # rint rounds half to even


VALUES = ValueRule(levels=_levels(), level_from_value=_level_from_value)
"""A picture that goes in and straight out again is unchanged."""


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


ENCODER_REACH_BLOCKS = 2
"""Convolutions per residual block of the encoder: each sees one more LR pixel on every side."""


@dataclass(frozen=True, kw_only=True)
class WorkingMemory:
    """Bytes that a backend takes per output pixel, as multiples of 4 bytes per channel of the finest level.

    Rounded up from what was seen (docs/measurements.md, working memory). Backends keep what they took for the next run.
    """

    denoise: float
    encode: float
    attention: float  # maps of 4 bytes per pair of tokens; 2.1 seen on ONNX Runtime, OpenVINO makes none
    weights_again: float  # share of the weights that the first run copies into the backend's own layout


WORKING_MEMORY = {
    Memory.LEAN: WorkingMemory(denoise=16.0, encode=2.0, attention=2.2, weights_again=0.1),
    Memory.ROOMY: WorkingMemory(denoise=31.0, encode=3.5, attention=0.5, weights_again=1.0),
}


class IdmModel(Model):
    """An IDM bundle's networks. Pictures are float32 in [-1, 1], (batch, 3, height, width)."""

    values = VALUES
    sampling = SAMPLING

    def __init__(self, graphs: Graphs) -> None:
        configuration = graphs.bundle.manifest.configuration
        config: IdmConfig = config_from_values({name: entry["value"] for name, entry in configuration.items()})
        super().__init__(graphs, training_pixels=config.image_size**2)
        self.levels = config.levels
        self.s_max = config.s_max
        self.channels = config.out_channel
        self._inner_channels = config.inner_channel
        self._features = config.n_feats
        self._level_channels = config.level_channels
        self._finest_attention = min([*config.attention_levels, self.levels - 1])  # the middle always has attention
        # Head, residual blocks, closing convolution: the LR pixels around a window that its condition depends on.
        self._reach = 2 + ENCODER_REACH_BLOCKS * config.n_resblocks

    @property
    def stride(self) -> int:
        """Windows must start at multiples of this for the levels of a tile to lie on those of the picture."""
        return int(2 ** (self.levels - 1))

    def scaler_from_size(self, lr_width: int, width: int) -> float:
        """The scaling factor (w - w_lr) / ((s_max - 1) * w_lr): 0 is no magnification, 1 the training maximum."""
        return (width - lr_width) / ((self.s_max - 1.0) * lr_width)

    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What each step feeds besides state and condition: this family looks at the noise level only."""
        levels = np.array([row.noise_level for row in rows], dtype=np.float32)[:, None]
        return self.tabulated_feeds("noise_level", levels, "noise_row")

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

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "IdmSubject":
        """The pictures on their way to `size`; this family's encoder draws nothing."""
        del posterior
        return IdmSubject(self, lr, size)

    def refusal_of_blend(self) -> str | None:
        """None: the network is told its magnification."""
        return None

    def blended(self, subject: Subject, blend: float) -> Subject:
        """The same pictures with another scaling factor."""
        return replace(cast(IdmSubject, subject), _blend=blend)

    def refusal_of_turns(self) -> str | None:
        """None: the state is the picture."""
        return None

    def turned(self, subject: Subject, turn: Turn) -> Subject:
        """The same pictures turned."""
        mine = cast(IdmSubject, subject)
        return replace(mine, _lr=np.ascontiguousarray(turned(mine._lr, turn)))

    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory that the networks take for one window, from the measurements in WORKING_MEMORY."""
        per_channel = WORKING_MEMORY[self.graphs.choice.record.memory]
        pixels = prod(window) * batch
        linear = per_channel.denoise * self._inner_channels + per_channel.encode * (
            self._inner_channels + self._features
        )
        tokens = prod(-(-side // 2**self._finest_attention) for side in window)
        attention = per_channel.attention * tokens**2 * batch
        once = per_channel.weights_again * self._weight_bytes()
        return int(4 * (linear * pixels + attention) + once)

    def condition_bytes(self, window: Size, batch: int) -> int:
        """232 + 256 bytes per output pixel for the published network: shifts of every level, and the first map."""
        channels = [self._inner_channels, *self._level_channels[1:]]
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

    def _weight_bytes(self) -> int:
        """Bytes of the float denoiser's weights; without one, of all weights that are left in floating point."""
        manifest = self.graphs.bundle.manifest
        described = manifest.graphs.get("denoise", manifest.graphs["encode"])
        return sum(manifest.files[name].bytes for name in described["weights"])


@dataclass(eq=False)
class IdmSubject:
    """Low-resolution pictures (batch, 3, h, w) on their way to `size`."""

    _model: IdmModel
    _lr: Float32
    _size: Size
    _blend: float = 1.0

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        return self._lr.shape[0], self._lr.shape[1], *self._size

    def condition(self, window: Window) -> dict[str, Array]:
        """Everything about the pictures that does not change from step to step, for one window."""
        return self._model.condition(self._lr, self._size, window, self._blend)

    def first_guess(self, rows: slice) -> Float32:
        """Rows of the bicubically enlarged input."""
        return resize_region(self._lr, self._size, (rows.start, rows.stop), (0, self._size[1]))

    def make_consistent(self, estimate: Float32, strength: float, trim: Callable[[], None]) -> None:
        """`deploy.images.resize.data_consistency` in strips, so that an estimate on disk stays there."""
        height, width = self._lr.shape[2:]
        difference = np.empty_like(self._lr)
        for rows in _lr_strips(self._lr.shape, self._size):
            small = resize_region(estimate, (height, width), (rows.start, rows.stop), (0, width))
            np.subtract(self._lr[:, :, rows], small, out=difference[:, :, rows])
            trim()
        difference *= np.float32(strength)
        for rows in strips_of_rows(estimate.shape):
            span = (rows.start, rows.stop)
            estimate[:, :, rows] += resize_region(difference, self._size, span, (0, self._size[1]))
            trim()

    def picture_rows(self, state: Float32, room: int, consistency: float = 0.0) -> Iterator[Float32]:
        """The state, which is the picture, strip by strip; its estimates were made consistent."""
        del room, consistency
        for rows in strips_of_rows(state.shape):
            yield state[:, :, rows]


def _lr_strips(lr_shape: tuple[int, ...], size: Size) -> Iterator[slice]:
    """Rows of the input whose part of the output has about the values of one strip."""
    batch, channels, height, width = lr_shape
    taller, wider = -(-size[0] // height), -(-size[1] // width)
    return strips_of_rows((batch, channels * taller * wider, height, width))
