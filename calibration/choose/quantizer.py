"""What a stored 8-bit code means, and which forms of code the targets run.

All of them are a window of consecutive integers on the lattice of multiples of one scale:

    code k in lowest..highest,  value = scale · k,  k = round(x / scale) limited to the window

Symmetric()   -127..127           signed codes with zero point 0 (TensorRT)
Asymmetric()  -z..255 - z         unsigned codes c = k + z with zero point z in 0..255 (ONNX Runtime, OpenVINO)
Shifted()     m - 127..m + 127    signed codes of x - shift with zero point 0, where shift = m · scale; the weights
                                  applied to the constant shift go into the bias of the layer, so nothing is lost

Every window holds 0, so the zeros with which a convolution pads are met exactly (with `Shifted` the padding's code
is -m, the value -shift, and not 0).

Example: the values -0.28 and 10 of a tensor after SiLU. Symmetric: scale 10 / 127 = 0.0787, and the codes -127..-5
are never used. Asymmetric: scale 10.28 / 255 = 0.0403, z = round(0.28 / 0.0403) = 7, window -7..248. Shifted: scale
10.28 / 254 = 0.0405, lowest code round(-0.28 / 0.0405) = -7, m = 120, shift = 4.857. Half the step, a quarter of the
rounding error (6 dB).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.errors import ChoiceError


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """value = scale · k for integers k from lowest to highest. The scale is rounded to float32 when made."""

    scale: float
    lowest: int
    highest: int

    def __post_init__(self) -> None:
        rounded = float(np.float32(self.scale))
        if not (0.0 < rounded < float("inf")) or not self.lowest <= 0 <= self.highest:
            raise ChoiceError(
                f"making a quantizer of scale {self.scale} and codes {self.lowest}..{self.highest}: the scale must be"
                " a positive float32 and the codes must include 0."
            )
        object.__setattr__(self, "scale", rounded)

    @property
    def zero_point(self) -> int:
        """The unsigned code that stands for 0, for a window of 256 codes stored from 0 to 255."""
        return -self.lowest

    @property
    def shift_steps(self) -> int:
        """The whole number m of steps that centres the window; the shift is m · scale. 0 when symmetric."""
        return (self.lowest + self.highest) // 2

    @property
    def shift(self) -> float:
        """What is taken from x before signed coding."""
        return self.shift_steps * self.scale

    def codes(self, values: NDArray[np.floating]) -> NDArray[np.int32]:
        """The integers k of values, rounded half to even as ONNX's QuantizeLinear does."""
        scaled = np.asarray(values, dtype=np.float32) / np.float32(self.scale)
        codes: NDArray[np.int32] = np.clip(np.rint(scaled), self.lowest, self.highest).astype(np.int32)
        return codes

    def round_trip(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """The values that the codes of `values` stand for."""
        return self.codes(values).astype(np.float32) * np.float32(self.scale)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of code: how many codes there are, and which windows of them may be chosen, here all that hold 0."""

    levels: ClassVar[int]

    @property
    def lowest_codes(self) -> NDArray[np.int64]:
        """The lowest code of each window allowed."""
        return np.arange(-self.levels + 1, 1)

    def covering(self, minimum: float, maximum: float) -> Quantizer:
        """The quantizer whose window covers [minimum, maximum] to within half a step at each end."""
        minimum, maximum = min(minimum, 0.0), max(maximum, 0.0)
        scale = _positive((maximum - minimum) / (self.levels - 1))
        lowest = round(minimum / scale)
        return Quantizer(scale=scale, lowest=lowest, highest=lowest + self.levels - 1)


@dataclass(frozen=True, kw_only=True)
class Symmetric(Form):
    """Signed codes around 0: -127..127."""

    levels: ClassVar[int] = 255

    @property
    def lowest_codes(self) -> NDArray[np.int64]:
        """The lowest code of the one window."""
        return np.array([-(self.levels // 2)])

    def covering(self, minimum: float, maximum: float) -> Quantizer:
        """The quantizer with the smallest scale that clips nothing of [minimum, maximum]."""
        half = self.levels // 2
        return Quantizer(scale=_positive(max(-minimum, maximum) / half), lowest=-half, highest=half)


@dataclass(frozen=True, kw_only=True)
class Asymmetric(Form):
    """Unsigned codes 0..255 with a zero point."""

    levels: ClassVar[int] = 256


@dataclass(frozen=True, kw_only=True)
class Shifted(Form):
    """Signed codes -127..127 of x - shift, the shift being a whole number of steps."""

    levels: ClassVar[int] = 255


def _positive(scale: float) -> float:
    """A tensor that is zero throughout gets scale 1: every scale represents it exactly."""
    return scale if np.float32(scale) > 0 else 1.0
