"""From 8-bit pixels to the values a network works with, and back, as the published code of its family does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deploy.errors import OutputError

Pixels = NDArray[np.uint8]
NetworkValues = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ValueRule:
    """How a network sees pixels: its value of each of the 256 levels, and how its results become levels."""

    levels: NetworkValues
    level_from_value: Callable[[NetworkValues], NetworkValues]


def rounded(rule: ValueRule) -> ValueRule:
    """The rule with results at the nearest level, whatever the published code does with fractions of one."""
    return replace(rule, level_from_value=_nearest_level)


def _nearest_level(values: NetworkValues) -> NetworkValues:
    unit = np.clip(values * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(np.rint(unit * np.float32(255)), np.float32)


def network_from_pixels(pixels: Pixels | NetworkValues, rule: ValueRule) -> NetworkValues:
    """Network values (..., 3, H, W) in [-1, 1] of 8-bit RGB pixels (..., H, W, 3), or of floats from 0 to 1.

    Between the 256 levels there are no published values: they lie on the line on which those lie.
    """
    values = rule.levels[pixels] if pixels.dtype == np.uint8 else pixels * np.float32(2) - np.float32(1)
    return np.moveaxis(values, -1, -3).copy()


def pixels_from_network(values: NetworkValues, rule: ValueRule, grey: Sequence[bool] = ()) -> Pixels:
    """8-bit RGB pixels (..., H, W, 3) of network values (..., 3, H, W), limited to [-1, 1] first.

    `grey`, one for each picture of a batch (B, 3, H, W): it was made of a grey picture and is made grey. Values that
    are not finite are refused: in 8 bits they would be a black picture.
    """
    levels = rule.level_from_value(_checked(values, grey))
    return np.ascontiguousarray(np.moveaxis(levels.astype(np.uint8), -3, -1))


def unit_from_network(values: NetworkValues, grey: Sequence[bool] = ()) -> NetworkValues:
    """Floats from 0 to 1 (..., H, W, 3) of network values, with nothing rounded; else as `pixels_from_network`."""
    unit = (np.clip(_checked(values, grey), -1.0, 1.0) + np.float32(1)) * np.float32(0.5)
    return np.ascontiguousarray(np.moveaxis(unit, -3, -1))


def limited(values: NetworkValues, grey: Sequence[bool] = ()) -> NetworkValues:
    """Network values (..., 3, H, W) limited to [-1, 1]; else as `pixels_from_network`."""
    return np.clip(_checked(values, grey), -1.0, 1.0)


def _checked(values: NetworkValues, grey: Sequence[bool]) -> NetworkValues:
    """The values, finite, with neutral ones where a picture is grey."""
    if not np.isfinite(values).all():
        wrong = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise OutputError(
            f"converting a network's output to pixels: {wrong} of {values.size} values are not finite. Run "
            "again with another `engine` or with `precision` fp32 to see which of them goes wrong."
        )
    if any(grey):
        values = np.where(np.array(grey)[:, None, None, None], _neutral(values), values)
    return np.asarray(values, np.float32)


def _neutral(values: NetworkValues) -> NetworkValues:
    """The mean of the three channels (..., 1, H, W) in the values' own light, each limited to [-1, 1] first.

    The mean rather than a luma, whose weights belong to colours: what differs between the channels of a grey picture
    is an error of the network, most of which cancels in a mean.
    """
    return np.asarray(np.clip(values, -1.0, 1.0).mean(axis=-3, keepdims=True), np.float32)
