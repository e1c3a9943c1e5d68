"""How much memory the covariances of inputs may take, and a refusal before anything is recorded if that is too little.

One layer's must be held at a time: 162 MiB for 512 channels under a 3x3 kernel. What is left over says how many layers
share a pass over the inputs.
"""

import math
from collections.abc import Sequence

from calibration.observe.layers import Layer
from calibration.passes.decoder_gathering import convolutions_of_decode, layers_of_query
from calibration.passes.gathering import quantizable_layers
from calibration.targets.table import DECODE, QUERY
from deploy.bundle import Bundle
from deploy.errors import SizeError
from deploy.int8.storing.storing import calibrated_graph
from deploy.picture.memory import default_budget, text_from_bytes

NUMERATOR, DENOMINATOR = 2, 5
"""Of what may be resident. The rest is the process itself: with a half it peaked at 6.1 of 6 GiB on the full IDM."""


def bytes_for_covariances(max_memory: int | None) -> int:
    """Their part of what may be resident; max_memory None: of what is free now."""
    return (max_memory or default_budget()) * NUMERATOR // DENOMINATOR


def calibrated_layers(bundle: Bundle) -> list[Layer]:
    """The layers whose weights are rounded by a covariance: the denoiser's, and the decoder's if there is one."""
    layers = quantizable_layers(calibrated_graph(bundle, "denoise"))
    if DECODE in bundle.manifest.graphs:
        layers += convolutions_of_decode(calibrated_graph(bundle, DECODE))
    if QUERY in bundle.manifest.graphs:
        layers += layers_of_query(calibrated_graph(bundle, QUERY))
    return layers


def refuse_too_little(layers: Sequence[Layer], allowed: int) -> None:
    """SizeError, with what would do, unless the covariance of every layer fits into `allowed` bytes."""
    needed = max((layer.geometry.covariance_bytes() for layer in layers), default=0)
    if needed > allowed:
        largest = next(layer for layer in layers if layer.geometry.covariance_bytes() == needed)
        enough = math.ceil(needed * DENOMINATOR / NUMERATOR / 2**20)
        raise SizeError(
            f"calibrating: rounding the weights of {largest.module} needs {text_from_bytes(needed)} for the covariance"
            f" of its input, and {text_from_bytes(allowed)} may be taken. Allow more with --max-memory {enough}MiB, or"
            " do without with --rounding nearest."
        )
