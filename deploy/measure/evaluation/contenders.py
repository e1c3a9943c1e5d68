"""What is compared: ways to enlarge a picture, without a model and with one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deploy.images.pictures import Pixels
from deploy.images.resize import FloatImage, back_project, upscale
from deploy.images.sizes import Size, times_grown
from deploy.measure.evaluation.originals import Original, pixels_from_planes
from deploy.picture.options import ignore
from deploy.picture.stages import Course
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

BACK_PROJECTIONS = 5
BICUBIC = "bicubic"
BACK_PROJECTED = f"bicubic, {BACK_PROJECTIONS} back-projections"
"""What filters alone reach: a model that does not beat this one has only sharpened."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a contender does. `evaluations` of the network for one picture; None: without a model.

    `counterpart` names the contender whose pictures this one approximates, as int8 does those of float32 from the same
    noise. On a plot, contenders of one `series` are joined, and `label` tells them apart.
    """

    text: str
    evaluations: int | None = None
    counterpart: str | None = None
    series: str = ""
    label: str = ""


class Contender(Protocol):
    """A way to enlarge pictures."""

    @property
    def name(self) -> str:
        """The name of its row in the table."""

    @property
    def is_random(self) -> bool:
        """Whether each draw is another picture."""

    def about(self, original: Original | None = None) -> About:
        """What it does, to that original where the number of its evaluations depends on the scale."""

    def enlarged(self, lr: Pixels, size: Size, draw: int) -> Pixels:
        """The LR picture at `size`."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A way without a model."""

    name: str
    enlarge: Callable[[FloatImage, tuple[int, int]], FloatImage]
    is_random: bool = False

    def about(self, original: Original | None = None) -> About:
        """What it does."""
        del original
        return About(text="a filter, no model")

    def enlarged(self, lr: Pixels, size: Size, draw: int) -> Pixels:
        """The LR picture at `size`; every draw is the same."""
        del draw
        return pixels_from_planes(self.enlarge(np.moveaxis(lr, -1, 0).astype(np.float32), size))


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
    counterpart: str | None = None
    series: str = ""
    label: str = ""
    notice: Callable[[str], None] = ignore

    def about(self, original: Original | None = None) -> About:
        """What it does."""
        choice = self.upscaler.choice
        sizes = None if original is None else (Size.of(original.lr), original.size)
        sampling = self.upscaler.sampling(self.choices, None if sizes is None else times_grown(*sizes))
        runs = sampling.draws
        if sizes is not None:
            runs = Course.of(*sizes, sampling).runs
        return About(
            text=f"{sampling.recipe()}; {self.upscaler.bundle.path.name} on {choice.backend} {choice.precision}",
            evaluations=len(self.upscaler.session.plan(sampling)) * runs,
            counterpart=self.counterpart,
            series=self.series,
            label=self.label,
        )

    def enlarged(self, lr: Pixels, size: Size, draw: int) -> Pixels:
        """One draw for the LR picture at `size`."""
        picture: Pixels = self.upscaler.upscale(
            lr, size=size.for_user, seed=self.seed, sample=draw, choices=self.choices, notice=self.notice
        )
        return picture
