"""How far two float32 computations of one tensor may lie apart: from the arithmetic, not from what one machine gave.

A processor, a library and a number of threads each choose the order of a sum, and the order decides the rounding.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

HALF_STEP = 2.0**-24
"""The largest relative error of one float32 rounding: half the distance between neighbours."""

FUNCTION = 8
"""Roundings of a layer besides its sum: bias, normalisation, activation, the addition of a shortcut."""

EXTREME = 5
"""Standard deviations that none of a million normally distributed errors is likely to exceed."""


def rounding_of_sums(terms: int, largest: float = 1.0) -> float:
    """What two sums of so many products, in two orders, may differ by if no result is larger than `largest`.

    One rounding has a relative error of HALF_STEP / sqrt(3), as root mean square of a uniform one. A sum of n terms of
    size s has partial sums of s sqrt(k), k = 1..n, so an error of s n HALF_STEP / sqrt(6) in all; relative to its
    result, s sqrt(n), that is HALF_STEP sqrt(n / 6), and sqrt(2) times as much between two orders. Sums that follow
    one another add the squares of their errors: give all their terms together.

    Example: a 3x3 convolution of 64 channels has 576 terms: 5 * 2^-24 * sqrt(192) = 4.1e-6 of the largest value.
    """
    return EXTREME * HALF_STEP * math.sqrt(terms / 3) * largest


def rounding_of_network(network: nn.Module, largest: float) -> float:
    """The same for a network whose layers neither amplify nor damp errors, as normalised ones do on average."""
    return rounding_of_sums(sum(_terms(layer) for layer in network.modules()), largest)


def assert_same_but_for_rounding(actual: Tensor, expected: Any, network: nn.Module, before: float = 0.0) -> None:
    """Fails if more than the rounding of this network's sums, and an error `before` it, lies between the tensors."""
    wanted = torch.as_tensor(expected).detach()
    tolerance = rounding_of_network(network, float(wanted.abs().max())) + before
    torch.testing.assert_close(actual, wanted, rtol=0.0, atol=tolerance)


def rounding_of_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """What two embeddings cos(t f), sin(t f) with f = 10000^(-k/half) may differ by: (B, channels).

    Everyone gives exp the same number, but it answers with one of the two neighbours of the exact value, so two
    answers lie up to two steps of 2^-23 f apart, and t times that. Each product is then rounded by half a step, and
    each cosine, never steeper than 1, by a step below 1, which is 2^-24. At k = 0 the frequency is exactly 1.
    """
    half = channels // 2
    angle = timesteps[:, None].double() * torch.exp(-math.log(1e4) / half * torch.arange(half, dtype=torch.float64))
    moved = 6 * HALF_STEP * angle
    moved[:, 0] = 0
    return torch.cat([moved, moved], dim=1) + 2 * HALF_STEP


def _terms(layer: nn.Module) -> int:
    """The products in one output of a layer, and the roundings around them; 0 for what only holds layers."""
    if next(layer.children(), None) is not None:
        return 0
    weight = getattr(layer, "weight", None)
    return FUNCTION + (0 if weight is None else weight[0].numel())
