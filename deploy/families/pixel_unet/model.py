"""What bundles with this U-Net answer alike at run time, and the axes of their graphs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import numpy as np

from deploy.families.contract import Graphs, Subject
from deploy.families.model import Model
from deploy.families.pixel_unet.config import UnetConfig
from deploy.families.pixel_unet.subject import PIXEL_VALUES, PixelSubject
from deploy.families.sizes import STEPS, Axes, EngineSizes
from deploy.images.sizes import Size
from deploy.sampling.plan import PlanRow
from deploy.sampling.turns import Turn, turned
from engines.arrays import Array
from engines.contract import Memory
from engines.plans.profiles import AxisRange


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


class PixelModel(Model):
    """A bundle's networks, of which the denoiser is this U-Net. Pictures are float32 in [-1, 1], (batch, 3, H, W)."""

    values = PIXEL_VALUES
    encoder_channels: int = 0
    """Features, at the size of the output, of what makes the condition, beside those of the finest level."""

    def __init__(self, graphs: Graphs, config: UnetConfig) -> None:
        super().__init__(graphs, training_pixels=config.image_size**2)
        self.levels = config.levels
        self.channels = config.out_channel
        self.inner_channels = config.inner_channel
        self.level_channels = config.level_channels
        self._finest_attention = min([*config.attention_levels, self.levels - 1])  # the middle always has attention

    @property
    def stride(self) -> int:
        """Windows must start at multiples of this for the levels of a tile to lie on those of the picture."""
        return int(2 ** (self.levels - 1))

    def refusal_of_turns(self) -> str | None:
        """None: the state is the picture."""
        return None

    def turned(self, subject: Subject, turn: Turn) -> Subject:
        """The same pictures turned."""
        pixels = cast(PixelSubject, subject)
        return cast(Subject, replace(pixels, _lr=np.ascontiguousarray(turned(pixels._lr, turn))))

    def feeds_of_rows(self, rows: Sequence[PlanRow]) -> list[dict[str, Array]]:
        """What each step feeds besides state and condition: this network looks at the noise level only."""
        levels = np.array([row.noise_level for row in rows], dtype=np.float32)[:, None]
        return self.tabulated_feeds("noise_level", levels, "noise_row")

    def working_bytes(self, window: Size, batch: int) -> int:
        """Memory that the networks take for one window, from the measurements in WORKING_MEMORY."""
        per_channel = WORKING_MEMORY[self.graphs.choice.record.memory]
        pixels = prod(window) * batch
        linear = per_channel.denoise * self.inner_channels + per_channel.encode * (
            self.inner_channels + self.encoder_channels
        )
        tokens = prod(-(-side // 2**self._finest_attention) for side in window)
        attention = per_channel.attention * tokens**2 * batch
        once = per_channel.weights_again * self._weight_bytes()
        return int(4 * (linear * pixels + attention) + once)

    def _weight_bytes(self) -> int:
        """Bytes of the float denoiser's weights; without one, of all weights that are left in floating point."""
        manifest = self.graphs.bundle.manifest
        listed = [manifest.graphs["denoise"]] if "denoise" in manifest.graphs else manifest.graphs.values()
        return sum(manifest.files[name].bytes for name in {name for graph in listed for name in graph.weights})


def axes_of_graphs(config: UnetConfig, sizes: EngineSizes) -> Axes:
    """Levels of the U-Net are halves, rounded up, as its strided convolutions have them."""
    axes: dict[str, AxisRange] = {}
    for axis, name in enumerate(("height", "width")):
        sides = [size[axis] for size in sizes.sizes]
        for level in range(config.levels):
            axes[f"{name}_{level}" if level else name] = (sides[0], sides[1], sides[2])
            sides = [-(-side // 2) for side in sides]
        low, usual, high = (sizes.lr_size(which)[axis] for which in range(3))
        axes[f"lr_{name}"] = (low, usual, high)
    axes["batch"] = sizes.batch

    def of_graph(graph: str) -> dict[str, AxisRange]:
        return axes | {"rows": STEPS if graph == "tabulate" else (1, 1, 1)}

    return of_graph
