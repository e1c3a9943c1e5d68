"""One zero point for all timestep ranges of a tensor, a scale for each.

ONNX Runtime's fast convolution and OpenVINO's both want the zero point constant, since a convolution pads with it; the
scale may follow the range. So the window of codes is chosen once, for what it costs over all ranges together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.clipping import Method, Mse, choose_for_steps, choose_quantizer, scale_grid, window_errors
from calibration.density import Density
from calibration.errors import StatisticsError
from calibration.quantizer import Form, Quantizer


def choose_common_window(
    densities: Sequence[Density],
    form: Form,
    method: Method,
    weights: Sequence[float] | NDArray[np.float64] | None = None,
) -> tuple[Quantizer, ...]:
    """A quantizer per density, all with the same codes: the least weighted sum of errors for `Mse`.

    For other methods the window is that of all densities mixed, and each scale the smallest that reaches the bounds
    which the method sets for its density alone.
    """
    if not densities:
        raise StatisticsError("choosing a common window: no density was given; at least one is needed.")
    weighing = np.ones(len(densities)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not isinstance(method, Mse):
        together = choose_for_steps(list(densities), form, method, weighing)
        return tuple(_reaching(choose_quantizer(density, form, method), together) for density in densities)
    scales = [scale_grid([density], form, method) for density in densities]
    errors = [window_errors(d, grid, form) for d, grid in zip(densities, scales, strict=True)]
    cost = sum(weight * table.min(axis=0) for weight, table in zip(weighing, errors, strict=True))
    window = int(np.argmin(cost))
    lowest = int(form.lowest_codes[window])
    return tuple(
        Quantizer(scale=float(grid[table[:, window].argmin()]), lowest=lowest, highest=lowest + form.levels - 1)
        for grid, table in zip(scales, errors, strict=True)
    )


def _reaching(alone: Quantizer, together: Quantizer) -> Quantizer:
    """The codes of `together`, scaled to reach both ends of `alone`.

    Where the shared window has no code on one side of 0, what little lies there is clipped, as it is in the mixture.
    """
    low, high = (code * alone.scale for code in (alone.lowest, alone.highest))
    reaches = [end / code for end, code in ((low, together.lowest), (high, together.highest)) if code != 0]
    return Quantizer(scale=max([*reaches, 0.0]) or alone.scale, lowest=together.lowest, highest=together.highest)
