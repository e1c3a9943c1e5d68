"""Presets and what the caller says instead."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.bundle import Bundle, Manifest
from deploy.bundle.records import Preset, SearchedPlacement
from deploy.errors import PlanError
from deploy.sampling.choices import Choices, placement_key, sampling_from

LEVELS = (0.3, 0.6, 0.9)


@pytest.fixture
def manifest(idm_micro: Bundle) -> Manifest:
    presets = {
        "plain": Preset(equation="ddim", steps=20, eta=0.5),
        "aided": Preset(equation="dpmpp-2m", steps=5, start=0.4, consistency=1.0).with_measured("psnr", 3.0),
        "listed": Preset(equation="ddim", steps=3, placement=LEVELS, start=0.3),
    }
    placements = {placement_key("ddim", 3, None): SearchedPlacement(noise_levels=LEVELS)}
    return replace(idm_micro.manifest, presets=presets, default_preset="plain", placements=placements)


def test_the_default_preset_is_taken_as_it_stands(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices())
    assert (sampling.plan.equation, sampling.plan.steps, sampling.plan.eta) == ("ddim", 20, 0.5)
    assert sampling.consistency == 0.0 and not sampling.from_guess
    assert sampling.describe() == "plain: ddim, 20 steps placed uniform, from pure noise, eta 0.5"


def test_a_given_option_overrides_the_presets(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(preset="aided", steps=7, consistency=0.25))
    assert (sampling.plan.equation, sampling.plan.steps, sampling.plan.start) == ("dpmpp-2m", 7, 0.4)
    assert sampling.consistency == 0.25 and sampling.from_guess
    assert "from the enlarged input noised to level 0.4, data consistency 0.25" in sampling.describe()


def test_a_start_of_zero_is_pure_noise(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(preset="aided", start=0.0))
    assert sampling.plan.start is None and not sampling.from_guess


def test_a_listed_placement_begins_at_its_first_level(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(preset="listed"))
    assert sampling.plan.placement == LEVELS and sampling.plan.start is None and sampling.from_guess
    assert sampling.describe() == "listed: ddim, 3 steps placed by search, from the enlarged input noised to level 0.3"
    given = sampling_from(manifest, Choices(placement=[0.2, 0.5]))
    assert given.plan.steps == 2 and not given.from_guess
    assert "2 steps placed as listed, from pure noise" in given.describe()


def test_a_list_goes_with_the_steps_it_was_made_for(manifest: Manifest) -> None:
    for choices in (Choices(preset="listed", steps=4), Choices(preset="listed", start=0.5)):
        assert sampling_from(manifest, choices).plan.placement == "uniform"


def test_the_eta_of_a_preset_goes_with_its_equation(manifest: Manifest) -> None:
    assert sampling_from(manifest, Choices(equation="dpmpp-2m")).plan.eta == 0.0


def test_a_searched_placement_is_looked_up(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(steps=3, placement="searched"))
    assert sampling.plan.placement == LEVELS and not sampling.from_guess
    assert sampling.describe() == "plain: ddim, 3 steps placed by search, from pure noise, eta 0.5"


def test_published_takes_nothing_from_a_preset(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(preset="aided", published=True, steps=10))
    assert sampling.plan.published and sampling.plan.start is None and sampling.consistency == 0.0
    assert sampling.describe().startswith("published: ddim, 10 steps as published")


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"preset": "plian"}, r"preset 'plian' is unknown, the nearest is 'plain'; this bundle has"),
        ({"consistency": 1.5}, r"consistency must be a strength from 0 \(none\) to 1 \(full\), found 1\.5"),
        ({"equation": "dddim"}, r"'dddim' is unknown, the nearest is 'ddim'"),
        ({"placement": "searched", "steps": 4}, r"no searched placement ddim/4/noise .* it has ddim/3/noise"),
        ({"placement": (0.2, 0.9), "start": 0.5}, r"begins at 0\.2, but the start is 0\.5"),
        ({"placement": (0.2, 0.9), "steps": 3}, r"2 noise levels are listed for 3 steps"),
        ({"start": -0.5}, r"start must be a noise level between 0"),
        ({"published": True, "start": 0.5}, r"takes neither a start nor a placement"),
    ],
)
def test_what_cannot_be_honoured_is_refused(manifest: Manifest, choices: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        sampling_from(manifest, Choices(**choices))
