"""What is to be written into int8 graphs: per layer its weights' codes, and scales for each timestep range.

A recipe names layers as the float graph names its nodes. Layers that it leaves out stay in float.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.choose.quantizer import Quantizer
from calibration.errors import GraphError

FloatArray = NDArray[np.float32]

HEADROOM = 1.5
"""Other pictures go beyond the extremes of the calibration pictures, and a clipped channel costs far more than a wider
step. On a trained IDM of 5 M parameters (four calibration pictures, six others, 16 to 64, DDIM-20) the headroom 1, 1.2,
1.5, 2, 2.5 gave 45.2, 47.5, 49.6, 49.7, 48.8 dB against float and 37.6, 40.3, 44.4, 47.2, 47.0 on the worst picture;
with float outputs 52.4 and 49.0. More calibration pictures need less."""

LARGEST_CENTRE: Final = 2**30
"""Of an output window, so that an accumulator of 32 bits has room for what is added to it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputWindow:
    """How the outputs of a convolution are coded: one 8-bit code for every channel, each with a scale of its own.

    Counted in units of the integer accumulator, in which an output without its bias is
    sum (input code - zero point) * weight code. In range k, code c of channel o stands for

        centres[o] + (c - 128) * steps[o] * gains[k]

    Example: accumulators of one channel lie between -300 and 4800 in range 0 and between -150 and 2400 in range 1.
    centre 2250 (the middle of all that occurs), step 2550 / 127 = 20.1, gains 1 and 2400 / 2550 = 0.94.
    """

    centres: NDArray[np.int32]
    steps: FloatArray
    gains: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerRecipe:
    """One convolution or linear layer in int8.

    codes: int8, output channel first (O, ...), whatever the layout in the graph; weight = codes * weight_scales.
    inputs: the quantizer of the input in each range.
    factors: what each channel of the input is multiplied by before it is coded, the codes being those of weights that
    are divided by it (`calibration.choose.equalisation`); None: nothing.
    corrections: what is added to the output, (ranges, O), or None.
    output: only the target `ort` needs it, and only for convolutions.
    """

    node: str
    codes: NDArray[np.int8]
    weight_scales: FloatArray
    inputs: tuple[Quantizer, ...]
    factors: FloatArray | None = None
    corrections: FloatArray | None = None
    output: OutputWindow | None = None

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return int(self.codes.shape[0])

    @property
    def input_scales(self) -> FloatArray:
        """The scale of the input in each range."""
        return np.array([quantizer.scale for quantizer in self.inputs], dtype=np.float32)

    def problems(self, ranges: int) -> Iterator[str]:
        """What does not fit together, each as the end of a sentence."""
        size = self.outputs
        shapes: dict[str, tuple[FloatArray, tuple[int, ...]]] = {"weight_scales": (self.weight_scales, (size,))}
        if self.codes.dtype != np.int8 or self.codes.ndim < 2:
            yield f"codes are {self.codes.dtype} of shape {self.codes.shape}, not int8 with output channels first"
        if len(self.inputs) != ranges:
            yield f"{len(self.inputs)} input quantizers for {ranges} ranges"
        if self.factors is not None:
            shapes["factors"] = (self.factors, self.codes.shape[1:2])
        if self.corrections is not None:
            shapes["corrections"] = (self.corrections, (ranges, size))
        if self.output is not None:
            shapes["output.steps"] = (self.output.steps, (size,))
            shapes["output.gains"] = (self.output.gains, (ranges,))
            if self.output.centres.shape != (size,):
                yield f"output.centres have shape {self.output.centres.shape}, not {(size,)}"
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                yield f"{name} have shape {array.shape}, not {shape}"
            elif not np.isfinite(array).all() or (name != "corrections" and not (array > 0).all()):
                yield f"{name} are not all finite{'' if name == 'corrections' else ' and positive'}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All layers in int8, for a number of timestep ranges; checked when made, all problems named at once."""

    ranges: int
    layers: tuple[LayerRecipe, ...]

    def __post_init__(self) -> None:
        """Refuse layers that do not fit the number of ranges, and layers named twice."""
        problems = [f"{layer.node}: {told}" for layer in self.layers for told in layer.problems(self.ranges)]
        names = [layer.node for layer in self.layers]
        problems += [f"{name}: named twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if self.ranges < 1:
            problems.append(f"{self.ranges} ranges")
        if problems:
            raise GraphError(f"making an int8 recipe: {'; '.join(problems)}.")

    @property
    def by_node(self) -> dict[str, LayerRecipe]:
        """The layers by the name of their node."""
        return {layer.node: layer for layer in self.layers}


def output_window(
    lowest: NDArray[np.floating[Any]],
    highest: NDArray[np.floating[Any]],
    *,
    bias: FloatArray,
    weight_scales: FloatArray,
    inputs: tuple[Quantizer, ...],
    headroom: float = HEADROOM,
) -> OutputWindow:
    """The window that holds `headroom` times what every channel was seen to be in every range.

    lowest, highest: of the layer's float output with its bias, (ranges, O).
    """
    scales = np.array([q.scale for q in inputs], dtype=np.float64)[:, None] * weight_scales.astype(np.float64)
    low, high = ((np.asarray(side, dtype=np.float64) - bias) / scales for side in (lowest, highest))
    # More than products of codes ever sum up to; a channel with next to no weights gets there by rounding of its bias.
    low, high = (np.clip(side, -LARGEST_CENTRE, LARGEST_CENTRE) for side in (low, high))
    centres = np.rint((low.min(axis=0) + high.max(axis=0)) / 2)
    halves = np.maximum(np.maximum(high - centres, centres - low), 1.0)  # (ranges, O); a constant channel needs some
    widest = halves.max(axis=0)
    return OutputWindow(
        centres=centres.astype(np.int32),
        steps=(widest * headroom / 127).astype(np.float32),
        gains=(halves / widest).max(axis=1).astype(np.float32),
    )
