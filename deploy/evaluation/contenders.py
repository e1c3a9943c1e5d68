"""What is compared: ways to enlarge a picture, without a model and with one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deploy.evaluation.originals import Original, Pixels, pixels_from_planes
from deploy.images.resize import FloatImage, back_project, upscale
from deploy.runtime.settings import Choices
from deploy.runtime.upscaler import Upscaler

BACK_PROJECTIONS = 5
BICUBIC = "bicubic"
BACK_PROJECTED = f"bicubic, {BACK_PROJECTIONS} back-projections"
"""What filters alone reach: a model that does not beat this one has only sharpened."""


class Contender(Protocol):
    """A way to enlarge pictures."""

    @property
    def name(self) -> str:
        """Its row in the table."""

    @property
    def is_random(self) -> bool:
        """Whether each draw is another picture."""

    def describe(self) -> str:
        """What it does, in one line."""

    def enlarged(self, original: Original, draw: int) -> Pixels:
        """The LR picture at the original's size."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A way without a model."""

    name: str
    enlarge: Callable[[FloatImage, tuple[int, int]], FloatImage]
    is_random: bool = False

    def describe(self) -> str:
        """What it does, in one line."""
        return "a filter, no model"

    def enlarged(self, original: Original, draw: int) -> Pixels:
        """The LR picture at the original's size; every draw is the same."""
        del draw
        planes = np.moveaxis(original.lr, -1, 0).astype(np.float32)
        return pixels_from_planes(self.enlarge(planes, (original.pixels.shape[0], original.pixels.shape[1])))


MODEL_FREE = (
    Filter(name=BICUBIC, enlarge=upscale),
    Filter(name=BACK_PROJECTED, enlarge=lambda lr, size: back_project(lr, size, BACK_PROJECTIONS)),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A bundle on an engine with one way to sample. Draw n of a seed is the same in every run."""

    name: str
    upscaler: Upscaler
    choices: Choices
    seed: int = 0
    is_random: bool = True

    def describe(self) -> str:
        """What it does, in one line."""
        choice = self.upscaler.choice
        sampling = self.upscaler.sampling(self.choices).recipe()
        return f"{sampling}; {self.upscaler.bundle.path.name} on {choice.backend} {choice.precision}"

    def enlarged(self, original: Original, draw: int) -> Pixels:
        """One draw for the LR picture at the original's size."""
        choices = self.choices
        made: Pixels = self.upscaler.upscale(
            original.lr,
            size=original.size,
            seed=self.seed,
            sample=draw,
            preset=choices.preset,
            equation=choices.equation,
            steps=choices.steps,
            start=choices.start,
            consistency=choices.consistency,
            eta=choices.eta,
            placement=choices.placement,
            published=choices.published,
        )
        return made
