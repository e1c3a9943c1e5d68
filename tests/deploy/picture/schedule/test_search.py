"""The search of step placements: exact where it claims to be, never worse than a rule, resumable."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import Bundle
from deploy.bundle.records import SearchedPlacement
from deploy.errors import BundleError, PlanError
from deploy.picture.options import ignore
from deploy.picture.schedule.presets import ScheduleRequest, schedule_bundle, text_from_entry
from deploy.picture.schedule.search import PlacementSearch, Sample, Setting, blend, cheapest_path
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from deploy.sampling.noise_source import NoiseSource
from deploy.sampling.schedule import NoiseSchedule
from tests.deploy.picture.stub_model import StubModel

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
LR = np.random.default_rng(3).uniform(-1, 1, (1, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
def test_the_path_is_the_cheapest_of_all(steps: int) -> None:
    costs = np.random.default_rng(steps).uniform(0.1, 1.0, (7, 8))
    costs[np.tril_indices(7, m=8)] = np.inf

    def cost(path: tuple[int, ...]) -> float:
        return float(sum(costs[a, b] for a, b in zip(path, (*path[1:], 7), strict=True)))

    everything = [(0, *rest) for rest in combinations(range(1, 7), steps - 1)]
    path = cheapest_path(costs, steps)
    assert tuple(path) in everything
    assert cost(tuple(path)) == pytest.approx(min(map(cost, everything)))


def test_a_blend_lies_between_and_keeps_what_is_common() -> None:
    made = blend((0.1, 0.5, 0.9), (0.1, 0.7, 0.8), 0.5)
    assert made[0] == 0.1 and 0.5 < made[1] < 0.7 and 0.8 < made[2] < 0.9


def search(**options: Any) -> PlacementSearch:
    model = StubModel()
    sample = Sample(subject=model.subject(LR, (16, 20), None), noise=NoiseSource(seed=1, sample=0, images=[3]))
    return PlacementSearch(model, IDM, [sample], Setting(**({"equation": "ddim"} | options)), reference_evaluations=40)


@pytest.mark.parametrize("options", [{}, {"equation": "dpmpp-2m"}, {"start": 0.4, "consistency": 1.0}])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_searched_placement_is_never_worse_than_a_rule(options: dict[str, Any], steps: int) -> None:
    found = search(**options).find(steps)
    assert len(found.noise_levels) == steps and list(found.noise_levels) == sorted(found.noise_levels)
    assert found.distance <= min(found.rules.values())
    assert search(**options).distance(found.noise_levels) == found.distance
    if "start" in options:
        assert found.noise_levels[0] == pytest.approx(0.4)


def test_the_search_gains_where_the_rules_are_far_from_best() -> None:
    """The stub's estimate changes fastest where none of the rules is dense: six searched steps are clearly nearer."""
    found = search().find(6)
    assert found.origin == "search"
    assert found.distance < 0.9 * min(found.rules.values())


def test_more_steps_than_the_dense_run_and_noisy_equations_are_refused() -> None:
    with pytest.raises(PlanError, match=r"fewer steps than the \d+ of the dense run"):
        search().find(200)
    with pytest.raises(PlanError, match=r"equations without fresh noise only, ddpm adds some"):
        Setting(equation="ddpm")
    with pytest.raises(PlanError, match=r"at least one number of steps, one equation and one sample"):
        ScheduleRequest(steps=())


def test_a_stopped_search_resumes_and_infer_uses_what_was_found(
    idm_micro: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = tmp_path / "micro.bundle"
    shutil.copytree(idm_micro.path, folder)
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 7, 3), np.uint8)).save(picture)
    request = ScheduleRequest(steps=(2, 3), equations=("ddim",), images=(picture,), samples=1, scale=2.0)
    made: list[int] = []
    find = PlacementSearch.find

    def stopping(self: PlacementSearch, steps: int) -> Any:
        if steps == 3 and len(made) == 1:
            raise KeyboardInterrupt
        made.append(steps)
        return find(self, steps)

    monkeypatch.setattr(PlacementSearch, "find", stopping)
    with Upscaler(Bundle.open(folder), threads=1) as up, pytest.raises(KeyboardInterrupt):
        schedule_bundle(up, request, say=ignore, progress=lambda *_: None)
    assert list(Bundle.open(folder).manifest.placements) == ["ddim/2/noise"]
    made.append(0)  # no more interruption
    with Upscaler(Bundle.open(folder), threads=1) as up:
        rows = schedule_bundle(up, request, say=ignore, progress=lambda *_: None)
    assert [(row.steps, row.resumed) for row in rows] == [(2, True), (3, False)] and made == [2, 0, 3]
    bundle = Bundle.open(folder)
    assert bundle.manifest.presets["draft"].placement == rows[0].entry.noise_levels
    assert bundle.manifest.presets["best"].steps == 3 and bundle.manifest.default_preset == "balanced"
    with Upscaler(bundle, threads=1) as up:
        searched = up.sampling(Choices(equation="ddim", steps=2, placement="searched"))
        assert searched.plan.placement == up.sampling(Choices(preset="draft")).plan.placement
        assert up.upscale(np.zeros((4, 4, 3), np.uint8), 2.0).shape == (8, 8, 3)


def test_a_placement_without_its_evidence_says_so() -> None:
    """As another version may have recorded it."""
    assert "how near they end is not" in text_from_entry("ddim", 1, SearchedPlacement(noise_levels=(0.5,)))


def test_a_bundle_without_samples_asks_for_pictures(idm_micro: Bundle) -> None:
    bare = replace(idm_micro, manifest=replace(idm_micro.manifest, samples=()))
    with Upscaler(bare) as up, pytest.raises(BundleError, match=r"no sample picture to search with; name low-res"):
        schedule_bundle(up, ScheduleRequest(), say=ignore, progress=lambda *_: None)


def test_a_generation_model_needs_no_picture(latent_gen: Bundle, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "gen.bundle"
    shutil.copytree(latent_gen.path, folder)
    request = ScheduleRequest(steps=(3,), equations=("ddim",), samples=1)
    with Upscaler(Bundle.open(folder), threads=1) as up:
        (row,) = schedule_bundle(up, request, say=ignore, progress=lambda *_: None)
    schedule = NoiseSchedule.from_record(latent_gen.manifest.schedule)
    assert set(row.entry.noise_levels) <= set(schedule.noise_levels)  # this family knows timesteps only
