"""In which magnifications a picture is enlarged, one after the other: in one go, in stages, by a filter at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.errors import PlanError, SizeError
from deploy.images.sizes import Size

AUTO = "auto"
"""What the preset says."""
ONCE = "once"
"""The network enlarges to the output size in one go, whatever the scale."""

MOST = 8
"""Stages: with fewer than two times each, more make no sense."""

NEARLY = 0.01
"""Part of a scale by which a product of stages may miss it and still be meant to be it: 3.46,3.46 for 12."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The magnifications that the network makes one after the other; none: it enlarges in one go.

    What their product leaves of the scale is done by a filter, antialiased bicubic. are_limits: each says at most, as
    in presets, which know no picture: 4,4 makes 2 of a scale of 2, 4,2 of 8, 4,3 of 12. Otherwise they are exact, and
    a product above the scale is refused.
    """

    magnifications: tuple[float, ...] = ()
    are_limits: bool = False

    def __post_init__(self) -> None:
        listed = self.magnifications
        if len(listed) > MOST or not all(map(_is_number, listed)):
            raise PlanError(
                f"The `stages` must be {AUTO}, {ONCE} or up to {MOST} magnifications such as 4,3; found {list(listed)}."
            )
        below = [value for value in listed if value < 1]
        if below:
            raise PlanError(f"A stage enlarges at least 1 time, found {below[0]:g}; `stages` are such as 4,3.")

    @property
    def is_once(self) -> bool:
        """Whether the network enlarges in one go."""
        return not self.magnifications

    def sizes(self, lr: Size, size: Size) -> tuple[Size, ...]:
        """The sizes that the network enlarges to, one after the other; a filter follows where the last is not `size`.

        Between an input and an output of other proportions they change by the same share in each stage.
        """
        if self.is_once:
            return (size,)
        axis = max((0, 1), key=lambda axis: size[axis] / lr[axis])
        whole = size[axis] / lr[axis]
        sizes: list[Size] = []
        reached = 1.0
        for magnification in self.magnifications:
            reached *= magnification
            beyond = reached * lr[axis] - size[axis]
            if abs(beyond) <= max(0.5, NEARLY * size[axis]):  # half a pixel: sizes are rounded
                reached = whole
            elif beyond > 0:
                if not self.are_limits:
                    raise SizeError(
                        f"The `stages` {self} enlarge {math.prod(self.magnifications):.4g} times, the picture is to "
                        f"grow {whole:.4g} times, from {lr} to {size}. Leave some out, or make them smaller."
                    )
                reached = whole
            share = math.log(reached) / math.log(whole) if whole > 1 else 1.0
            sizes.append(size if reached == whole else _between(lr, size, share))
            if reached == whole and self.are_limits:
                break
        return tuple(sizes)

    def most_at_once(self, scale: float | None) -> float:
        """What the network magnifies at most in one stage where the picture grows so many times; 1 if that is open."""
        if self.is_once:
            return scale or 1.0
        most = max(self.magnifications)
        return most if scale is None or not self.are_limits else min(most, scale)

    def __str__(self) -> str:
        """As people write it: once, or 4,3."""
        return ",".join(f"{value:g}" for value in self.magnifications) or ONCE

    def describe(self) -> str:
        """In words, for a line on how pictures are sampled; empty for one go."""
        if self.is_once:
            return ""
        times = " then ".join(f"{value:g}x" for value in self.magnifications)
        return f"in stages of {'at most ' if self.are_limits else ''}{times}, the rest by filter"


def stages_from(said: str | Sequence[float] | None, preset: Sequence[float] | None) -> Stages:
    """What the caller says, and otherwise what the preset does."""
    if said is None or said == AUTO:
        return Stages(magnifications=tuple(preset or ()), are_limits=True)
    if said == ONCE:
        return Stages()
    if isinstance(said, str) or not said:
        raise PlanError(f"The `stages` must be {AUTO}, {ONCE} or magnifications such as 4,3; found {said!r}.")
    return Stages(magnifications=tuple(said))


def _between(lr: Size, size: Size, share: float) -> Size:
    """The size that lies `share` of the way from one to another, by how many times each side grows."""
    return Size(*(round(side * (after / side) ** share) for side, after in zip(lr, size, strict=True)))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
