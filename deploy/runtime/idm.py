"""An IDM bundle at run time: what its graphs are fed, for a whole picture or for a window of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.coordinates import axis_lookup, resize_index
from deploy.runtime.graphs import Array, GraphSet

Float32 = NDArray[np.float32]
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of the output: rows top..bottom and columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    @classmethod
    def whole(cls, size: Size) -> "Window":
        """The window that is the whole picture."""
        return cls(top=0, left=0, bottom=size[0], right=size[1])


ENCODER_REACH_BLOCKS = 2
"""Convolutions per residual block of the encoder: each sees one more LR pixel on every side."""


class IdmModel:
    """An IDM bundle's networks. Pictures are float32 in [-1, 1], (batch, 3, height, width)."""

    def __init__(self, graphs: GraphSet) -> None:
        self._graphs = graphs
        configuration = graphs.bundle.manifest.configuration
        self.levels = len(configuration["channel_multiplier"]["value"])
        self.s_max = float(configuration["s_max"]["value"])
        # Head, residual blocks, closing convolution: the LR pixels around a window that its condition depends on.
        self._reach = 2 + ENCODER_REACH_BLOCKS * int(configuration["n_resblocks"]["value"])
        self._tables: dict[Size, dict[str, Array]] = {}

    @property
    def stride(self) -> int:
        """Windows must start at multiples of this for the levels of a tile to lie on those of the picture."""
        return int(2 ** (self.levels - 1))

    def scaler_from_size(self, lr_width: int, width: int) -> float:
        """The scaling factor (w - w_lr) / ((s_max - 1) * w_lr): 0 is no magnification, 1 the training maximum."""
        return (width - lr_width) / ((self.s_max - 1.0) * lr_width)

    def rows(self, noise_levels: Sequence[float], timesteps: Sequence[int]) -> list[dict[str, Array]]:
        """What each step of a plan feeds besides the state: one mapping per step. IDM looks at the level only."""
        del timesteps
        levels = np.array(noise_levels, dtype=np.float32)[:, None]
        if "tabulate" not in self._graphs:
            return [{"noise_level": level[None]} for level in levels]
        table = self._graphs.run("tabulate", {"noise_level": levels})["noise_row"]
        return [{"noise_row": row[None]} for row in table]

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
        made = self._graphs.run("encode", feeds)
        return {"scaler": scaler, **made, **self._lookups(window.size)}

    def predict(self, x: Float32, condition: Mapping[str, Array], row: Mapping[str, Array]) -> Float32:
        """The noise that the network sees in x."""
        noise: Float32 = self._graphs.run("denoise", {"x": x, **condition, **row})["noise"]
        return noise

    def _lookups(self, size: Size) -> dict[str, Array]:
        """Indices and relative coordinates of every implicit layer for one size; kept for the next window."""
        if size not in self._tables:
            self._tables[size] = lookup_tables(size, self.levels)
        return self._tables[size]


def lookup_tables(size: Size, levels: int) -> dict[str, Array]:
    """The look-ups of the implicit layers: layer k goes from ceil(m / 2) to m = ceil(size / 2^(k-1)) per axis."""
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
