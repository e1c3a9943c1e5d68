"""Presets by a judge of known taste."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.bundle.records import json_from_records
from deploy.picture.options import ignore
from deploy.picture.schedule.choosing import ETAS, LIMITS, STARTS
from deploy.picture.schedule.presets import ScheduleRequest, schedule_bundle
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

QUICK = ScheduleRequest(steps=(1, 2, 3, 8), equations=("ddim", "dpmpp-2m"), samples=1, scale=2.0)


class Taste:
    """Likes quadratic placements, fresh noise, a start of 0.7, and more steps, but of 8 hardly more than of 3."""

    name, where, most_lost = "taste", "nothing", 0.5

    def __init__(self, scales: Sequence[float] = (6.0, 8.0, 12.0)) -> None:
        self.scales = scales
        self.asked: list[tuple[int, int | None, float | None]] = []  # ways, pictures, scale

    def can_judge(self, scale: float) -> bool:
        return scale in self.scales

    def looks(self, ways: Sequence[Choices], *, scale: float | None = None, pictures: int | None = None) -> list[float]:
        self.asked.append((len(ways), pictures, scale))
        return [self.look(way, scale) for way in ways]

    def look(self, way: Choices, scale: float | None) -> float:
        if scale is not None:
            # Stages of 4 are best, a filter after them nearly as good as a second one.
            stages = () if way.stages is None or isinstance(way.stages, str) else way.stages
            return -abs(stages[0] - 4.0) + 0.1 * len(stages) if stages else -4.0
        look = {1: 50.0, 2: 55.0, 3: 60.0, 8: 60.4}[way.steps or 0]
        return (
            look
            + (way.placement == "quadratic")
            + (way.eta or 0.0)
            + (way.start == 0.7)
            + 0.01 * (way.equation == "ddim")
            + 0.3 * ((way.draws or 1) - 1)
        )


@pytest.fixture
def upscaler(idm_micro: Bundle, tmp_path: Path) -> Upscaler:
    shutil.copytree(idm_micro.path, tmp_path / "micro.bundle")
    return Upscaler(Bundle.open(tmp_path / "micro.bundle"), threads=1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 7, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def scheduled(upscaler: Upscaler, picture: Path, taste: Taste, **changes: object) -> Bundle:
    with upscaler:
        request = replace(QUICK, images=(picture,), **changes)  # type: ignore[arg-type]
        schedule_bundle(upscaler, request, say=ignore, progress=lambda *_: None, judge=taste)
        return Bundle.open(upscaler.bundle.path)


def test_presets_are_the_fewest_steps_the_fewest_that_suffice_and_the_mean_of_draws(
    upscaler: Upscaler, picture: Path
) -> None:
    taste = Taste()
    manifest = scheduled(upscaler, picture, taste).manifest
    assert manifest.default_preset == "balanced"
    presets = {name: json_from_records(preset) for name, preset in manifest.presets.items()}
    way = {"equation": "ddim", "placement": "quadratic", "start": 0.7, "eta": 1.0, "stages": [4.0]}
    told = {"measured_on": "nothing"}
    # With one step all placements and shares of noise are one way, which stands there by its first name.
    assert presets["draft"] == {
        "equation": "ddim", "steps": 1, "placement": "uniform", "start": 0.7, "stages": [4.0], "measured_taste": 51.01,
    } | told  # fmt: skip
    assert presets["balanced"] == way | told | {"steps": 3, "measured_taste": pytest.approx(63.01)}
    assert presets["best"] == way | told | {"steps": 3, "draws": 4, "measured_taste": pytest.approx(63.91)}


def test_few_pictures_are_looked_at_first_and_ways_that_are_one_way_once(upscaler: Upscaler, picture: Path) -> None:
    taste = Taste()
    scheduled(upscaler, picture, taste)
    starts = len(STARTS) + 1  # the bundle's own presets begin with noise
    # Of two steps, dpmpp-2m makes both as ddim without noise does; its first and its last are always such.
    by_rule = starts * (1 + 3 * len(ETAS) + 2 * (3 * len(ETAS) + 3))
    found = 1 + 1 + 2 + 2  # searched for pure noise: with one step it is the rule again
    counted = [(2, by_rule + found - 1), (6, 6 * 3 + starts), (None, 2 * 4), (None, 3)]
    assert [(pictures, ways) for ways, pictures, scale in taste.asked if scale is None] == counted
    staged = [(ways, scale) for ways, _, scale in taste.asked if scale is not None]
    assert staged == [(2 * len([limit for limit in LIMITS if limit <= 8]) + 1, scale) for scale in (6.0, 8.0, 12.0)]


def test_what_cannot_be_judged_stays_and_a_start_that_is_said_is_the_only_one(
    upscaler: Upscaler, picture: Path
) -> None:
    manifest = scheduled(upscaler, picture, Taste(scales=()), starts=(0.4,)).manifest
    assert {preset.start for preset in manifest.presets.values()} == {0.4}
    assert all(preset.stages is None for preset in manifest.presets.values())
