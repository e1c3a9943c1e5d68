"""Where a run's random numbers come from: the seeded field of DESIGN's rule, or the caller's own callable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deploy.errors import PlanError
from deploy.sampling.noise import POSTERIOR_NOISE, key_of_stage, normal_field
from engines.arrays import Float32

Shape = tuple[int, int, int, int]
NoiseCallable = Callable[[tuple[int, ...], int], Any]
"""(shape, step_index) -> float32 array; step_index -1 is the start, -2 the draw from an encoder's posterior."""


def check_draw(seed: object, sample: object) -> None:
    """PlanError unless both are numbers that the noise can be made from."""
    for name, value, bits in (("seed", seed, 64), ("sample", sample, 32)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise PlanError(f"The {name} must be a whole number from 0 to 2^{bits} - 1, found {value!r}.")


@dataclass(kw_only=True)
class NoiseSource:
    """Noise for one batch. `images` are the pictures' noise keys; `custom` replaces the seeded numbers."""

    seed: int
    sample: int
    images: Sequence[int]
    custom: NoiseCallable | None = None
    _kept: tuple[int, Float32] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        check_draw(self.seed, self.sample)

    def rows(self, shape: Shape, step_index: int, rows: slice) -> Float32:
        """Rows of the field of one step for states of `shape`: (batch, channels, rows, width)."""
        if self.custom is not None:
            return self._custom_field(shape, step_index)[:, :, rows]
        parts = [
            normal_field(
                seed=self.seed,
                image=image,
                sample=self.sample,
                step=step_index,
                channels=shape[1],
                rows=range(rows.start, rows.stop),
                columns=range(shape[3]),
            )
            for image in self.images
        ]
        return np.stack(parts)

    def of_run(self, stage: int, draw: int, draws: int) -> "NoiseSource":
        """For a stage of a picture, from 0, and one of so many draws whose mean is taken: independent of the others."""
        images = [key_of_stage(image, stage) for image in self.images]
        return replace(self, images=images, sample=self.sample * draws + draw)

    def posterior(self, shape: Shape) -> Float32:
        """The noise of an encoder's draw."""
        return self.rows(shape, POSTERIOR_NOISE, slice(0, shape[2]))

    def _custom_field(self, shape: Shape, step_index: int) -> Float32:
        """The caller's field, asked for once per step."""
        assert self.custom is not None
        if self._kept is None or self._kept[0] != step_index or self._kept[1].shape != shape:
            field = np.asarray(self.custom(shape, step_index))
            if field.dtype != np.float32 or field.shape != shape:
                raise PlanError(
                    f"The noise callable was asked for float32 {shape} of step {step_index} and returned {field.dtype} "
                    f"{field.shape}."
                )
            self._kept = (step_index, field)
        return self._kept[1]
