"""Tiles that make a large picture faster than the whole: where attention takes more than what tiles work twice.

Attention's work grows with the square of the pixels, the rest with the pixels, which are worked on twice where tiles
overlap.

Decided from sizes and the network alone, never from the clock, so that the same request gives the same picture.
"""

from functools import lru_cache

from deploy.families.model import Growth, Model
from deploy.images.sizes import Size
from deploy.images.tiles import Tiling, smallest_tile, whole_tiling

FASTER_FROM = 0.85
"""Part of the whole picture's time that tiles may take by the forecast: for less, no picture is made otherwise."""

AS_FAST = 1.03
"""Of tiles whose work is at most so many times the least, the fewest are taken: they differ less from the whole."""

LARGEST = 1024
"""Pixels a side of tiles that are looked at. Attention is cheap enough to be left alone where larger ones would win."""


def faster_tile(model: Model, size: Size, *, from_guess: bool) -> int | None:
    """The side of the tiles in which a state of `size` is made fastest; None where that is the whole.

    from_guess: whether its steps begin at the enlarged input. Where they begin at noise, tiles come out as another
    picture (docs/sizes-and-memory.md), and are never taken to be faster.
    """
    growth = model.growth
    return fastest_tile(size, model.stride, growth) if from_guess and growth is not None else None


@lru_cache(maxsize=256)
def fastest_tile(size: Size, stride: int, growth: Growth) -> int | None:
    """The same for a network that grows so. 768x768 of the packaged one: 416, which is 2x2 tiles."""
    least = max(-(-growth.least_side // stride) * stride, smallest_tile(stride))
    sides = range(least, min(max(size), LARGEST), stride)
    tilings = [Tiling(size=size, tile=side, stride=stride) for side in sides]
    works = [(work_of(tiling, growth), tiling) for tiling in tilings]
    whole = work_of(whole_tiling(size, stride), growth)
    fastest = min((work for work, _ in works), default=whole)
    if fastest > FASTER_FROM * whole:
        return None
    return min((len(tiling), work, tiling.tile) for work, tiling in works if work <= AS_FAST * fastest)[2]


def work_of(tiling: Tiling, growth: Growth) -> float:
    """The work of an evaluation, in what a pixel takes of a small picture."""
    pixels = squares = 1
    for spans in (tiling.row_spans, tiling.column_spans):
        sides = [stop - start for start, stop in spans]
        pixels *= sum(sides)
        squares *= sum(side**2 for side in sides)
    return pixels + squares / growth.doubled_at
