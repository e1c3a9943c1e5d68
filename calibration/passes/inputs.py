"""What the passes are fed: recorded inputs of a denoiser, each with its step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from engines.arrays import Float32


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoiserInput:
    """One evaluation of the float network. level_index: of `CalibrationPlans.levels`; batch of a group's pictures."""

    level_index: int
    feeds: Mapping[str, NDArray[Any]]
    predicted: Float32


class Inputs:
    """The denoiser's inputs, as often as they are asked for, and all their noise levels, rising.

    each: one in so many, every noise level and picture among them; count: how many these are; rest: those that `each`
    leaves out. few: so many steps of each plan of one small picture.
    """

    def __init__(
        self,
        each: Callable[[int], Iterator[DenoiserInput]],
        few: Callable[[int], list[DenoiserInput]],
        count: Callable[[int], int],
        levels: Sequence[float],
        *,
        rest: Callable[[int], Iterator[DenoiserInput]] = lambda _every: iter(()),
    ) -> None:
        self.each = each
        self.few = few
        self.count = count
        self.levels = levels
        self.rest = rest
