"""The weights behind the recorded tensors, made again from nothing but parameter names and shapes.

The published checkpoints are not part of the project; whoever recorded the official networks filled them by
the rule below. A tensor is offset + gain * noise in float32, where the noise is standard normal from a PCG64
generator seeded with the CRC-32 of the name. `tests/test_synthetic.py` holds it against recorded checksums.
"""

import math
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]

# IDM layers that divide by sqrt(fan_in) when they run, hence stored with unit variance.
RUNTIME_SCALED = (
    "conv_body_first.",
    "conv_body_down.",
    "condition_scale1.",
    "condition_scale2.",
    "condition_shift.",
    "final_down1.",
    "final_down2.",
    "final_linear.",
    "final_styleconv.",
    ".modulated_conv.",
)
BIASES_NEAR_ONE = ("condition_scale1.", "condition_scale2.", ".modulation.")
ENCODER_BODY = "encoder.body."
"""Sixteen residual blocks without normalisation: halved, so that the activations stay of order one."""


def offset_and_gain(name: str, shape: Shape) -> tuple[float, float]:
    """Mean and standard deviation of the tensor `name`; (0, 0) for single numbers."""
    if shape in {(), (1,)}:
        return 0.0, 0.0
    if name.endswith("bias"):
        return float(any(part in name for part in BIASES_NEAR_ONE)), 0.05
    if len(shape) == 1:  # the weight of a normalisation
        return 1.0, 0.1
    if any(part in name for part in RUNTIME_SCALED):
        return 0.0, 1.0
    fan_in = math.prod(shape[1:])
    return 0.0, (0.5 if name.startswith(ENCODER_BODY) else 1.0) / math.sqrt(fan_in)


def make(name: str, shape: Iterable[int]) -> NDArray[np.float32]:
    """The float32 tensor of that name and shape."""
    sizes = tuple(int(size) for size in shape)
    offset, gain = offset_and_gain(name, sizes)
    if gain == 0.0:
        return np.full(sizes, offset, dtype=np.float32)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = generator.standard_normal(sizes).astype(np.float32)
    return noise * np.float32(gain) + np.float32(offset)


def fill(named_shapes: Iterable[tuple[str, Iterable[int]]]) -> dict[str, NDArray[np.float32]]:
    """A tensor for each (name, shape)."""
    return {name: make(name, shape) for name, shape in named_shapes}
