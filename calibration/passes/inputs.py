"""What the passes are fed: recorded inputs of a denoiser, each with its step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engines.arrays import Array, Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiserInput:
    """One evaluation of the float network. level_index: of `CalibrationPlans.levels`; batch of a group's pictures."""

    level_index: int
    feeds: Mapping[str, Array]
    predicted: Float32


@dataclass(frozen=True, eq=False)
class Inputs:
    """The denoiser's inputs, as often as they are asked for, and all their noise levels, rising.

    each: one in so many, every noise level and picture among them; count: how many these are. few: so many, of one
    small picture, from the lowest noise to the highest.
    """

    each: Callable[[int], Iterator[DenoiserInput]]
    few: Callable[[int], list[DenoiserInput]]
    count: Callable[[int], int]
    levels: Sequence[float]
