"""From 8-bit pixels to the values a network works with, and back, as each family's published code does it.

Both families work in [-1, 1] but turn results into 8 bits differently: IDM rounds half to even, the latent
family truncates. So a picture that goes in and straight out again is unchanged with IDM, while with the latent
family float32 rounding may leave a level one darker: part of the published result, kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.errors import ConfigError, OutputError

Pixels = NDArray[np.uint8]
NetworkValues = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ValueRule:
    """One family's mapping: the network value of each of the 256 levels, and how results become levels."""

    levels: NetworkValues
    level_from_value: Callable[[NetworkValues], NetworkValues]


def _idm_levels() -> NetworkValues:
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.float32(0.5)) / np.float32(0.5)


def _latent_levels() -> NetworkValues:
    return (np.arange(256) / 127.5 - 1.0).astype(np.float32)


def _idm_level_from_value(values: NetworkValues) -> NetworkValues:
    unit = (np.clip(values, -1.0, 1.0) + np.float32(1)) / np.float32(2)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)  # rint rounds half to even


def _latent_level_from_value(values: NetworkValues) -> NetworkValues:
    unit = np.clip(values * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(unit * np.float32(255), np.float32)  # the conversion to uint8 truncates


VALUE_RULES: dict[str, ValueRule] = {
    "idm": ValueRule(levels=_idm_levels(), level_from_value=_idm_level_from_value),
    "latent": ValueRule(levels=_latent_levels(), level_from_value=_latent_level_from_value),
}


def network_from_pixels(pixels: Pixels, family: str) -> NetworkValues:
    """Network values (..., 3, H, W) in [-1, 1] of 8-bit RGB pixels (..., H, W, 3)."""
    return np.moveaxis(_rule(family).levels[pixels], -1, -3).copy()


def pixels_from_network(values: NetworkValues, family: str, grey: Sequence[bool] = ()) -> Pixels:
    """8-bit RGB pixels (..., H, W, 3) of network values (..., 3, H, W), limited to [-1, 1] first.

    `grey`, one for each picture of a batch (B, 3, H, W): it was made of a grey picture and is made grey. Values that
    are not finite are refused: in 8 bits they would be a black picture.
    """
    if not np.isfinite(values).all():
        wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise OutputError(
            f"converting a network's output to pixels: {wrong} of {values.size} values are not finite. Run "
            "again with another `engine` or with `precision` fp32 to see which of them goes wrong."
        )
    if any(grey):
        values = np.where(np.array(grey)[:, None, None, None], _neutral(values), values)
    levels = _rule(family).level_from_value(np.asarray(values, np.float32))
    return np.ascontiguousarray(np.moveaxis(levels.astype(np.uint8), -3, -1))


def _neutral(values: NetworkValues) -> NetworkValues:
    """The mean of the three channels (..., 1, H, W) in the values' own light, each limited to [-1, 1] first.

    The mean rather than a luma, whose weights belong to colours: what differs between the channels of a grey picture
    is an error of the network, most of which cancels in a mean.
    """
    return np.asarray(np.clip(values, -1.0, 1.0).mean(axis=-3, keepdims=True), np.float32)


def _rule(family: str) -> ValueRule:
    if family not in VALUE_RULES:
        raise ConfigError(
            f"converting between pixels and network values: family {family!r} is not known; "
            f"expected one of {', '.join(sorted(VALUE_RULES))}."
        )
    return VALUE_RULES[family]
