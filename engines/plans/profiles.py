"""The sizes an engine is built for: for each dynamic axis of a graph the smallest, the usual and the largest."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engines.contract import TensorSpec
from engines.errors import EngineError

AxisRange = tuple[int, int, int]
"""Smallest, usual, largest size; the engine is tuned for the usual one."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Axis name -> (smallest, usual, largest)."""

    axes: Mapping[str, AxisRange]

    def __post_init__(self) -> None:
        wrong = [
            f"{axis} {low}..{usual}..{high}"
            for axis, (low, usual, high) in self.axes.items()
            if not low <= usual <= high
        ]
        wrong += [f"{axis} from {low}" for axis, (low, _, _) in self.axes.items() if low < 1]
        if wrong:
            raise EngineError(
                f"A profile cannot have {', '.join(wrong)}: sizes are 1 or more, from smallest over usual to largest."
            )
        object.__setattr__(self, "axes", MappingProxyType({axis: tuple(sizes) for axis, sizes in self.axes.items()}))

    @property
    def text(self) -> str:
        """The same for the same profile, and read by people: "batch 1, height 16..64..128"."""
        return ", ".join(f"{axis} {_text_of(sizes)}" for axis, sizes in sorted(self.axes.items()))

    @property
    def is_fixed(self) -> bool:
        """Whether every axis has one size."""
        return all(low == high for low, _, high in self.axes.values())

    def shapes(self, spec: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Smallest, usual and largest shape of one input; EngineError if an axis of it is not in the profile."""
        missing = [axis for axis in spec.shape if isinstance(axis, str) and axis not in self.axes]
        if missing:
            raise EngineError(
                f"The profile says nothing of the axis {missing[0]} of {spec}; it has {', '.join(self.axes) or 'none'}."
            )
        smallest, usual, largest = (
            tuple(axis if isinstance(axis, int) else self.axes[axis][which] for axis in spec.shape)
            for which in range(3)
        )
        return smallest, usual, largest

    def excess(self, sizes: Mapping[str, int]) -> str:
        """Which of these sizes lie outside, as the end of a sentence; empty if all are inside."""
        outside = [
            f"{axis} {size} (built for {_text_of(self.axes[axis])})"
            for axis, size in sizes.items()
            if axis in self.axes and not self.axes[axis][0] <= size <= self.axes[axis][2]
        ]
        return ", ".join(outside)


def _text_of(sizes: AxisRange) -> str:
    low, usual, high = sizes
    return str(low) if low == high else f"{low}..{usual}..{high}"
