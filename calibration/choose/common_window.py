"""One zero point for all timestep ranges of a tensor, a scale for each.

ONNX Runtime's fast convolution and OpenVINO's both want the zero point constant, since a convolution pads with it; the
scale may follow the range. So the window of codes is chosen once, for what it costs over all ranges together.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from calibration.choose.clipping import (
    Method,
    Mse,
    allowed_windows,
    choose_for_steps,
    choose_quantizer,
    scale_grid,
    window_errors,
)
from calibration.choose.density import Density, mixture_of
from calibration.choose.quantizer import Asymmetric, Form, Quantizer
from calibration.errors import StatisticsError

BITS: Final = 8
"""Of a bfloat16 number, the leading one included."""


def quantizers_of_ranges(
    ranges: Sequence[Sequence[Density]],
    weights: Sequence[Sequence[float]],
    form: Form,
    method: Method,
) -> tuple[Quantizer, ...]:
    """The quantizers of all ranges, each for the densities of its range's steps.

    Unsigned codes have one zero point for all ranges, since it is part of the graph (convolutions pad with it); forms
    whose targets have a graph per range choose for each range alone.
    """
    if isinstance(form, Asymmetric) and len(ranges) > 1:
        mixed = [mixture_of(list(steps), list(w)) for steps, w in zip(ranges, weights, strict=True)]
        return choose_common_window(mixed, form, method)
    return tuple(choose_for_steps(list(steps), form, method, list(w)) for steps, w in zip(ranges, weights, strict=True))


def choose_common_window(densities: Sequence[Density], form: Form, method: Method) -> tuple[Quantizer, ...]:
    """A quantizer per density, all with the same codes: the least sum of errors for `Mse`.

    For other methods the window is that of all densities mixed, and each scale the smallest that reaches the bounds
    which the method sets for its density alone. The scales' ratios are short, `with_short_ratios`.
    """
    if not densities:
        raise StatisticsError("choosing a common window: no density was given; at least one is needed.")
    if not isinstance(method, Mse):
        together = choose_for_steps(list(densities), form, method)
        alone = [choose_quantizer(density, form, method) for density in densities]
        quantizers = [_reaching(quantizer, together) for quantizer in alone]
        return with_short_ratios(_with_zeros_widest(densities, quantizers))
    scales = [scale_grid([density], form, method) for density in densities]
    errors = [window_errors(d, grid, form) for d, grid in zip(densities, scales, strict=True)]
    cost = sum(table.min(axis=0) for table in errors)
    window = int(np.argmin(np.where(allowed_windows(densities, form), cost, np.inf)))
    lowest = int(form.lowest_codes[window])
    quantizers = [
        Quantizer(scale=float(grid[table[:, window].argmin()]), lowest=lowest, highest=lowest + form.levels - 1)
        for grid, table in zip(scales, errors, strict=True)
    ]
    return with_short_ratios(_with_zeros_widest(densities, quantizers))


def _reaching(alone: Quantizer, together: Quantizer) -> Quantizer:
    """The codes of `together`, scaled to reach both ends of `alone`.

    Where the shared window has no code on one side of 0, what little lies there is clipped, as it is in the mixture.
    """
    low, high = (code * alone.scale for code in (alone.lowest, alone.highest))
    reaches = [end / code for end, code in ((low, together.lowest), (high, together.highest)) if code != 0]
    return Quantizer(scale=max([*reaches, 0.0]) or alone.scale, lowest=together.lowest, highest=together.highest)


def with_short_ratios(chosen: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
    """The quantizers with scales that the first is a multiple of by numbers of eight significant bits, as bfloat16 has.

    OpenVINO's graph multiplies a range's inputs by that ratio, in bfloat16 where it computes in it, and its outputs by
    the inverse, in float32: a longer ratio would leave all outputs of the range up to 0.4 % too large or too small.
    The ratio is rounded down, so a scale grows, by at most 0.8 %, and nothing more is clipped.

    Example: scales 0.04 and 0.03. 4 / 3 becomes 1.328125, and the second scale 0.04 / 1.328125 = 0.03012.
    """
    first = chosen[0].scale
    scaled = []
    for quantizer in chosen:
        mantissa, exponent = math.frexp(first / quantizer.scale)
        # Half a unit of float32 from the scales, which must not cost a ratio that is short already.
        ratio = math.ldexp(math.floor(mantissa * (1 << BITS) * (1 + 2**-22)), exponent - BITS)
        scaled.append(replace(quantizer, scale=first / ratio))
    return tuple(scaled)


def _with_zeros_widest(densities: Sequence[Density], chosen: Sequence[Quantizer]) -> tuple[Quantizer, ...]:
    """The quantizers, with the largest scale for ranges that were zero throughout: exact there, and clipping least."""
    scales = [q.scale for density, q in zip(densities, chosen, strict=True) if _is_not_zero(density)]
    widest = max(scales, default=1.0)
    return tuple(
        quantizer if _is_not_zero(density) else replace(quantizer, scale=widest)
        for density, quantizer in zip(densities, chosen, strict=True)
    )


def _is_not_zero(density: Density) -> bool:
    return not density.minimum == density.maximum == 0
