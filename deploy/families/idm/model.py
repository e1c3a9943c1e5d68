"""An IDM bundle at run time: what its graphs are fed, for a whole picture or for a window of one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from deploy.errors import PlanError
from deploy.families.contract import Array, Generated, Graphs, NoiseOfShape
from deploy.families.graph_denoiser import GraphDenoiser
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.conventions import SAMPLING, VALUES
from deploy.families.idm.detect import config_from_values
from deploy.families.idm.lookups import lookup_tables
from deploy.images.coordinates import resize_index
from deploy.images.resize import resize_region
from deploy.images.tiles import Size, strips_of_rows
from deploy.images.tiles import Window as Window
from deploy.sampling.plan import PlanRow
from engines.contract import Memory

Float32 = NDArray[np.float32]


ENCODER_REACH_BLOCKS = 2
"""Convolutions per residual block of the encoder: each sees one more LR pixel on every side."""


@dataclass(frozen=True, kw_only=True)
class WorkingMemory:
    """Bytes that a backend takes per output pixel, as multiples of 4 bytes per channel of the finest level.

    Measured at 64x64 to 512x512, one picture, with the 5.2 M (32 channels) and the 100 M parameter network (64):
    ONNX Runtime 1.31 `denoise` 15.5 and 15.3, OpenVINO 2026.4 21 to 27 and 23 to 31; `encode` 1.4 to 1.9 and 3 times
    the channels of both networks. The figures below are rounded up. Both keep for the next run what they took.
    """

    denoise: float
    encode: float
    attention: float  # maps of 4 bytes per pair of tokens; 2.1 seen on ONNX Runtime, OpenVINO makes none
    weights_again: float  # share of the weights that the first run copies into the backend's own layout


WORKING_MEMORY = {
    Memory.LEAN: WorkingMemory(denoise=16.0, encode=2.0, attention=2.2, weights_again=0.1),
    Memory.ROOMY: WorkingMemory(denoise=31.0, encode=3.5, attention=0.5, weights_again=1.0),
}


class IdmModel(GraphDenoiser):
    """An IDM bundle's networks. Pictures are float32 in [-1, 1], (batch, 3, height, width)."""

    values = VALUES
    sampling = SAMPLING
    generates = False
    usual_lr = None
    decoder = None

    def __init__(self, graphs: Graphs) -> None:
        configuration = graphs.bundle.manifest.configuration
        config: IdmConfig = config_from_values({name: entry["value"] for name, entry in configuration.items()})
        super().__init__(graphs, training_pixels=config.image_size**2)
        self.levels = config.levels
        self.s_max = config.s_max
        self.channels = config.out_channel
        self._inner_channels = config.inner_channel
        self._features = config.n_feats
        self._level_channels = [config.inner_channel * factor for factor in config.channel_multiplier]
        levels = [level for level in range(self.levels) if config.image_size // 2**level in config.attn_res]
        self._finest_attention = min([*levels, self.levels - 1])  # the middle always has attention
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
        if "tabulate" not in self.graphs:
            return [{"noise_level": level[None]} for level in levels]
        return [{"noise_row": row[None]} for row in self.graphs.run("tabulate", {"noise_level": levels})["noise_row"]]

    def condition(self, lr: Float32, size: Size, window: Window) -> dict[str, Array]:
        """Everything about the picture that does not change from step to step, for one window of the output."""
        axes = zip(lr.shape[2:], size, (window.top, window.left), (window.bottom, window.right), strict=True)
        crops, indices = [], []
        for count_in, count_out, first, last in axes:
            index = resize_index(count_in, count_out)[first:last]
            low = max(0, int(index[0]) - self._reach)
            crops.append(slice(low, min(count_in, int(index[-1]) + 1 + self._reach)))
            indices.append(index - low)
        scaler = np.full((lr.shape[0], 1), self.scaler_from_size(lr.shape[3], size[1]), dtype=np.float32)
        feeds: dict[str, Array] = {
            "lr": np.ascontiguousarray(lr[:, :, crops[0], crops[1]]),
            "row_index": indices[0],
            "column_index": indices[1],
            "scaler": scaler,
        }
        made = self.graphs.run("encode", feeds)
        return {"scaler": scaler, **made, **lookup_tables(window.size, self.levels)}

    # What the upscaler asks, see deploy.families.contract ------------------------------------------------------------

    def subject(self, lr: Float32, size: Size, posterior: NoiseOfShape) -> "IdmSubject":
        """The pictures on their way to `size`; this family's encoder draws nothing."""
        del posterior
        return IdmSubject(self, lr, size)

    def generation(self, count: int, state: Size | None, size: Size | None) -> Generated:
        """Refused: this family enlarges pictures."""
        del count, state, size
        raise PlanError("This model enlarges pictures and makes none from noise alone; use `upscale`.")

    def open_engines(self) -> None:
        """The graphs that a run needs are open."""
        for name in ("tabulate", "encode", "denoise"):
            if name in self.graphs:
                self.graphs.engine(name)

    def state_size(self, lr: Size, size: Size) -> Size:
        """The state is the picture."""
        del lr
        return size

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
        coarser: int = sum(
            c * prod(-(-s // 2**k) for s in window) for k, c in list(enumerate(self._level_channels))[1:]
        )
        return 4 * batch * (self._inner_channels * prod(window) + coarser)

    def whole_picture_bytes(self, lr: Size, size: Size, batch: int) -> int:
        """Nothing is needed for the whole picture at once."""
        del lr, size, batch
        return 0

    def blank_condition(self, lr: Size, size: Size, window: Window) -> dict[str, Array]:
        """The condition of a black picture."""
        return self.condition(np.zeros((1, self.channels, *lr), np.float32), size, window)

    def blank_rows(self, lr: Size, size: Size) -> Iterator[Float32]:
        """None: the state is the picture."""
        del lr, size
        return iter(())

    def refusal_of_consistency(self) -> str | None:
        """Data consistency works on pictures, which this family's state is."""
        return None

    def notice_of_scale(self, lr: Size, size: Size) -> str | None:
        """One line past the largest magnification of the training."""
        scale = size[1] / lr[1]
        if scale <= self.s_max:
            return None
        return (
            f"scale {scale:.4g} is beyond the trained 1 to {self.s_max:g} (scaling factor "
            f"{self.scaler_from_size(lr[1], size[1]):.3f}, trained 0 to 1): the network extrapolates"
        )

    def _weight_bytes(self) -> int:
        """Of the float denoiser; without one, of all that is left in floating point."""
        manifest = self.graphs.bundle.manifest
        described = manifest.graphs.get("denoise", manifest.graphs["encode"])
        return sum(manifest.files[name].bytes for name in described["weights"])


class IdmSubject:
    """Low-resolution pictures (batch, 3, h, w) on their way to `size`."""

    def __init__(self, model: IdmModel, lr: Float32, size: Size) -> None:
        self._model = model
        self._lr = lr
        self._size = size

    @property
    def state_shape(self) -> tuple[int, int, int, int]:
        """(batch, 3, height, width)."""
        return self._lr.shape[0], self._lr.shape[1], *self._size

    def condition(self, window: Window) -> dict[str, Array]:
        """Everything about the pictures that does not change from step to step, for one window."""
        return self._model.condition(self._lr, self._size, window)

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

    def picture_rows(self, state: Float32, room: int) -> Iterator[Float32]:
        """The state, which is the picture, strip by strip."""
        del room
        for rows in strips_of_rows(state.shape):
            yield state[:, :, rows]


def _lr_strips(lr_shape: tuple[int, ...], size: Size) -> Iterator[slice]:
    """Rows of the input whose part of the output has about the values of one strip."""
    batch, channels, height, width = lr_shape
    taller, wider = -(-size[0] // height), -(-size[1] // width)
    return strips_of_rows((batch, channels * taller * wider, height, width))
