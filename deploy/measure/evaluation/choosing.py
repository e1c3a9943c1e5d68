"""The judge of `schedule`: how ways to sample look on pictures with known originals (see `judging` for its rule)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploy.measure.evaluation.judging import MOST_SSIMULACRA2_LOST
from deploy.measure.evaluation.originals import Original, read_originals
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.packaged.places import CALIBRATION_IMAGES
from deploy.picture.schedule.measuring import PICTURES, KnownPicture
from deploy.picture.schedule.presets import LARGEST_LR_SIDE
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

MOST_PICTURES = 16
"""As many as there are calibration pictures: presets are chosen on these, never on held-out ones."""


LEAST_LR_SIDE = 12
"""Smaller low-resolution pictures are all border. The calibration pictures leave as many at 12 times."""


@dataclass(kw_only=True)
class BySsimulacra2:
    """On the middle of originals in a folder; see `deploy.picture.schedule.choosing.Judge`."""

    upscaler: Upscaler
    folder: Path
    what: str  # its pictures in words, after their number
    usual_scale: float
    seed: int
    progress: Callable[[str, float], None]
    name: str = "ssimulacra2"
    most_lost: float = MOST_SSIMULACRA2_LOST
    _prepared: dict[tuple[float, int], list[Original]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = read_originals(self.folder, 1.0)
        self._count = len(whole)
        self._least_side = min(min(original.size) for original in whole)
        usual_lr = self.upscaler.session.model.usual_lr or LARGEST_LR_SIDE
        self._lr_side = min(usual_lr, LARGEST_LR_SIDE)
        self._originals(self.usual_scale, None)  # too small ones are refused now

    @property
    def where(self) -> str:
        """In words."""
        return f"{min(self._count, MOST_PICTURES)} {self.what}"

    def can_judge(self, scale: float) -> bool:
        """Whether the originals leave low-resolution pictures of LEAST_LR_SIDE at that scale."""
        return self._least_side >= LEAST_LR_SIDE * scale

    def looks(
        self, ways: Sequence[Choices], *, scale: float | None = None, pictures: int | None = None
    ) -> Sequence[float]:
        """The mean of each over the pictures."""
        by = self.usual_scale if scale is None else scale
        originals = self._originals(by, pictures)
        doing = f"judging {len(ways)} ways to sample at {by:g} times on {len(originals)} pictures"
        values = []
        for number, way in enumerate(ways):
            self.progress(doing, number / len(ways))
            values.append(float(np.mean([self._look(original, way) for original in originals])))
        return values

    def originals(self, scale: float) -> list[Original]:
        """All of them at a scale."""
        return self._originals(scale, None)

    def _originals(self, scale: float, pictures: int | None) -> list[Original]:
        """Cut to what low-resolution pictures of the usual side enlarge to, as far as they are as large."""
        limit = min(self._count, MOST_PICTURES if pictures is None else pictures)
        if (scale, limit) not in self._prepared:
            crop = min(round(scale * self._lr_side), self._least_side)
            self._prepared[scale, limit] = read_originals(self.folder, scale, limit=limit, crop=crop)
        return self._prepared[scale, limit]

    def _look(self, original: Original, way: Choices) -> float:
        pixels = self.upscaler.upscale(original.lr, size=original.size.for_user, seed=self.seed, choices=way)
        return ssimulacra2(pixels, original.pixels)


def known_pictures(upscaler: Upscaler, scale: float, *, folder: Path | None = None) -> list[KnownPicture]:
    """Originals in `folder`, or calibration pictures, to measure the predicted noise on; none of what generates."""
    if upscaler.session.model.generates:
        return []
    place = folder or CALIBRATION_IMAGES
    whole = read_originals(place, 1.0)
    side = round(scale * min(upscaler.session.model.usual_lr or LARGEST_LR_SIDE, LARGEST_LR_SIDE))
    crop = min(side, *(min(original.size) for original in whole))
    originals = read_originals(place, scale, limit=min(PICTURES, len(whole)), crop=crop)
    return [KnownPicture(lr=original.lr, original=original.pixels) for original in originals]


def judge_for(
    upscaler: Upscaler,
    scale: float,
    *,
    folder: Path | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None],
) -> BySsimulacra2 | None:
    """By originals in `folder`, or by the calibration pictures; None: the model generates."""
    if upscaler.session.model.generates:
        return None
    return BySsimulacra2(
        upscaler=upscaler,
        folder=folder or CALIBRATION_IMAGES,
        what="calibration pictures" if folder is None else f"originals of {folder.name}",
        usual_scale=scale,
        seed=seed,
        progress=progress,
    )
