"""Input quantizers of one tensor in every timestep range."""

from collections.abc import Sequence

from calibration.choose.clipping import Method, choose_for_steps
from calibration.choose.common_window import choose_common_window
from calibration.choose.density import Density, mixture_of
from calibration.choose.quantizer import Asymmetric, Form, Quantizer


def quantizers_of_ranges(
    ranges: Sequence[Sequence[Density]],
    weights: Sequence[Sequence[float]],
    form: Form,
    method: Method,
) -> tuple[Quantizer, ...]:
    """One quantizer per range, for the densities of its steps.

    Unsigned codes have one zero point for all ranges, since it is part of the graph (convolutions pad with it); forms
    whose targets have a graph per range choose for each range alone.
    """
    if isinstance(form, Asymmetric) and len(ranges) > 1:
        mixed = [mixture_of(list(steps), list(w)) for steps, w in zip(ranges, weights, strict=True)]
        return choose_common_window(mixed, form, method)
    return tuple(choose_for_steps(list(steps), form, method, list(w)) for steps, w in zip(ranges, weights, strict=True))
