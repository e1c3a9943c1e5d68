"""The sizes that engines are built for, as users say them, and what the axes of a graph are called then."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from deploy.errors import SizeError
from deploy.images.sizes import Size
from engines.plans.profiles import AxisRange

STEPS: AxisRange = (1, 20, 2000)
"""Rows of a plan that `tabulate` is asked for at once."""


@dataclass(frozen=True, kw_only=True)
class EngineSizes:
    """Smallest, usual and largest output (height, width), scale and batch.

    The smallest input is the smallest output at the largest scale, and so on.
    """

    sizes: tuple[Size, Size, Size]
    scales: tuple[float, float, float]
    batch: AxisRange = (1, 1, 1)

    def __post_init__(self) -> None:
        problems = []
        for axis, name in enumerate(("heights", "widths")):
            sides = [size[axis] for size in self.sizes]
            if sides != sorted(sides) or sides[0] < 1:
                problems.append(f"{name} {sides}")
        if list(self.scales) != sorted(self.scales) or self.scales[0] <= 0:
            problems.append(f"scales {list(self.scales)}")
        if list(self.batch) != sorted(self.batch) or self.batch[0] < 1:
            problems.append(f"batch {list(self.batch)}")
        if problems:
            raise SizeError(
                f"An engine cannot be built for {', '.join(problems)}: give the smallest, the usual and the largest, "
                "in this order and above 0."
            )

    def lr_size(self, which: int) -> Size:
        """The size of the smallest (0), usual (1) or largest (2) input."""
        rounding: Callable[[float], int] = (math.floor, round, math.ceil)[which]
        return Size(*(max(1, rounding(side / self.scales[2 - which])) for side in self.sizes[which]))


Axes = Callable[[str], dict[str, AxisRange]]
"""Name of a graph -> its axes; one name may mean different things in different graphs."""
