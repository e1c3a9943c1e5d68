"""Where the steps are placed: the recorded grids, arithmetic by hand, and what holds for every placement."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import PlanError
from deploy.families.idm.model import published_timesteps as published_idm_timesteps
from deploy.families.latent.model import published_timesteps as published_latent_timesteps
from deploy.sampling.placement import (
    CLEAN,
    PLACEMENTS,
    place,
    place_explicitly,
    place_published,
    point_from_noise_level,
    point_from_timestep,
)
from deploy.sampling.schedule import NoiseSchedule
from tests.deploy.sampling.recordings import recording, tables

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
LATENT = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155)
SHORT = NoiseSchedule.from_kind("linear", 20, 1e-4, 0.5)
JSD = NoiseSchedule.from_kind("jsd", 30)  # its last noise level is 0


def timesteps(schedule: NoiseSchedule, rule: str, steps: int, start: float | None = None) -> list[int]:
    placed = place(schedule, placement=rule, steps=steps, start=start, integer_timesteps=True)
    return [point.timestep for point in placed.points]


@pytest.mark.parametrize(
    "case",
    ["ddim_T2000_count10_32", "ddim_T400_count8_29", "ddim_T2000_official_200_24", "ddim_T500_official_skip2_17"],
)
def test_the_published_idm_grid_is_the_recorded_one(case: str) -> None:
    recorded = tables("idm_sampling_tiny", case)
    arguments = (int(recorded["n_timestep"]), float(recorded["linear_start"]), float(recorded["linear_end"]))
    schedule = NoiseSchedule.from_kind("linear", *arguments)
    placed = place_published(schedule, int(recorded["grid_count"]), published_idm_timesteps)
    assert [point.timestep for point in placed.points] == recorded["timesteps"].tolist()
    assert placed.end == point_from_timestep(schedule, 0)


@pytest.mark.parametrize("schedule_case", ["0.0001_0.015", "0.0015_0.0155", "0.0015_0.0195"])
@pytest.mark.parametrize("count", [4, 10, 30, 50, 200])
def test_the_published_latent_grid_is_the_recorded_one(schedule_case: str, count: int) -> None:
    recorded = tables("latent_schedule", f"sqrtlinear_{schedule_case}")
    start, end = (float(value) for value in schedule_case.split("_"))
    schedule = NoiseSchedule.from_kind("sqrtlinear", 1000, start, end)
    placed = place_published(schedule, count, published_latent_timesteps)
    used = recording("latent_schedule")[f"ddim_S{count}/timesteps_used_descending"]
    assert [point.timestep for point in placed.points] == used.tolist()
    # The recorded tables ascend and hold the dropped entry; they were computed from float32 alpha_bar (6e-8).
    alpha_bar = [point.alpha**2 for point in placed.points]
    np.testing.assert_allclose(alpha_bar, recorded[f"ddim_S{count}/alphas"][:-1][::-1], rtol=2e-6)
    following = [point.alpha**2 for point in (*placed.points[1:], placed.end)]
    np.testing.assert_allclose(following, recorded[f"ddim_S{count}/alphas_prev_f64"][:-1][::-1], rtol=2e-6)
    # sqrt(1 - alpha_bar) amplifies that rounding by 1/(2 (1 - alpha_bar)), at most 1/4e-4.
    sigmas = [point.sigma for point in placed.points]
    np.testing.assert_allclose(sigmas, recorded[f"ddim_S{count}/sqrt_one_minus_alphas"][:-1][::-1], rtol=2e-4)


def test_uniform_strides_by_hand() -> None:
    assert timesteps(IDM, "uniform", 4) == [1999, 1499, 999, 499]
    assert timesteps(IDM, "uniform", 2000) == list(range(1999, -1, -1))
    assert timesteps(SHORT, "uniform", 1) == [19]
    placed = place(IDM, placement="uniform", steps=4)
    assert [point.is_timestep for point in placed.points] == [True] * 4  # whole strides land on timesteps exactly
    assert placed.end is CLEAN


def test_uniform_strides_that_are_not_whole_lie_between_timesteps() -> None:
    points = place(SHORT, placement="uniform", steps=3).points  # positions 19, 12 1/3, 5 2/3
    assert [point.timestep for point in points] == [19, 12, 6]
    # By hand: the log-SNR at 12 1/3 is two thirds of that at 12 and a third of that at 13.
    assert points[1].log_snr == pytest.approx((2 * SHORT.log_snr[12] + SHORT.log_snr[13]) / 3)


def test_quadratic_strides_by_hand() -> None:
    # 20 timesteps, 4 steps: last = 20/16 - 1 = 1/4, the others 1/4 + (19 - 1/4)*(k/3)^2.
    expected = [19.0, 0.25 + 18.75 * 4 / 9, 0.25 + 18.75 / 9, 0.25]
    assert timesteps(SHORT, "quadratic", 4) == [math.floor(position + 0.5) for position in expected] == [19, 9, 2, 0]


def test_log_snr_strides_are_equal_and_reach_from_end_to_end() -> None:
    points = place(IDM, placement="logsnr", steps=9).points
    strides = np.diff([point.log_snr for point in points])
    np.testing.assert_allclose(strides, strides[0], rtol=1e-6)
    assert points[0].timestep == 1999 and points[-1].timestep == 0


@pytest.mark.parametrize("rule", sorted(PLACEMENTS))
def test_as_many_steps_as_timesteps_visit_every_timestep(rule: str) -> None:
    assert timesteps(SHORT, rule, 20) == list(range(19, -1, -1))


@settings(deadline=None, max_examples=200)
@given(
    rule=st.sampled_from(sorted(PLACEMENTS)),
    begin=st.tuples(st.just(SHORT), st.none())  # has too few timesteps to begin in the middle with 20 steps
    | st.tuples(st.sampled_from([IDM, LATENT]), st.none() | st.floats(0.1, 0.9)),
    steps=st.integers(1, 20),
    integers=st.booleans(),
)
def test_every_placement_runs_from_the_start_down_to_clean(
    rule: str, begin: tuple[NoiseSchedule, float | None], steps: int, integers: bool
) -> None:
    schedule, start = begin
    placed = place(schedule, placement=rule, steps=steps, start=start, integer_timesteps=integers)
    levels = [point.alpha for point in placed.points]
    assert len(levels) == steps
    assert all(a < b for a, b in zip(levels, [*levels[1:], placed.end.alpha], strict=True))
    expected_first = schedule.noise_level(schedule.timesteps - 1) if start is None else start
    if integers:
        assert all(point.is_timestep for point in placed.points)
        assert placed.points[0].timestep == schedule.nearest_timestep(expected_first)
    else:
        assert levels[0] == expected_first
    for point in placed.points:
        assert 0 <= point.timestep < schedule.timesteps
        assert point.timestep == schedule.nearest_timestep(point.alpha)
        assert point.alpha**2 + point.sigma**2 == pytest.approx(1, abs=1e-12)
        if point.is_timestep:
            assert point == point_from_timestep(schedule, point.timestep)


def test_a_listed_placement_is_taken_as_it_is_or_snapped_to_timesteps() -> None:
    levels = (0.1, 0.5, 0.93)
    assert tuple(point.alpha for point in place_explicitly(IDM, levels).points) == levels
    snapped = place_explicitly(LATENT, levels, integer_timesteps=True).points
    assert [point.timestep for point in snapped] == [LATENT.nearest_timestep(level) for level in levels]
    assert all(point.is_timestep for point in snapped)
    exact = tuple(LATENT.noise_level(timestep) for timestep in (900, 401, 3))
    assert [point.timestep for point in place_explicitly(LATENT, exact, integer_timesteps=True).points] == [900, 401, 3]


def test_the_level_of_a_timestep_gives_exactly_its_point() -> None:
    assert point_from_noise_level(IDM, IDM.noise_level(0)) == point_from_timestep(IDM, 0)


def test_more_steps_than_timesteps_are_refused() -> None:
    with pytest.raises(PlanError, match=r"21 steps were asked for.* only 20 timesteps; choose at most 20"):
        place(SHORT, placement="uniform", steps=21)
    with pytest.raises(PlanError, match="2001 steps were asked for"):
        place_published(IDM, 2001, published_idm_timesteps)
    with pytest.raises(PlanError, match="at least 1, found 0"):
        place(SHORT, placement="uniform", steps=0)


def test_a_published_grid_without_steps_is_refused() -> None:
    for schedule, grid in ((IDM, published_idm_timesteps), (LATENT, published_latent_timesteps)):
        with pytest.raises(PlanError, match="grid of 1 steps has no step to make"):
            place_published(schedule, 1, grid)


@pytest.mark.parametrize("count", [3, 300, 1000])  # the three that the reference lists as failing
def test_a_published_latent_grid_beyond_the_schedule_is_refused(count: int) -> None:
    with pytest.raises(PlanError, match="asks for timestep 1000 of a schedule that ends at 999"):
        place_published(LATENT, count, published_latent_timesteps)


def test_an_unknown_placement_names_the_nearest() -> None:
    with pytest.raises(PlanError, match="'unifrom' is unknown, the nearest is 'uniform'"):
        place(IDM, placement="unifrom", steps=4)


@pytest.mark.parametrize("start", [0.001, 0.99999999, math.nan])
def test_a_start_outside_the_schedule_is_refused(start: float) -> None:
    with pytest.raises(PlanError, match=r"start must be a noise level from 0\.00\d+ .* to 0\.9999995 .* found"):
        place(IDM, placement="uniform", steps=1, start=start)


def test_a_schedule_that_ends_in_pure_noise_needs_a_start() -> None:
    with pytest.raises(PlanError, match=r"ends at noise level 0.* begin at noise level 0\.1826 or above"):
        place(JSD, placement="uniform", steps=4)
    levels = [point.alpha for point in place(JSD, placement="uniform", steps=4, start=0.2).points]
    assert levels[0] == 0.2 and all(math.isfinite(level) for level in levels)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), "found none"),
        ((0.5, 1.0), "found 1;"),
        ((0.0001, 0.5), "found 0.0001;"),
        ((0.5, 0.4), r"0\.4996 is followed by 0\.4004; sort them"),
        ((0.5, 0.50000001), "leave out what falls on the same timestep"),
    ],
)
def test_an_impossible_list_of_noise_levels_is_refused(levels: tuple[float, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        place_explicitly(LATENT, levels, integer_timesteps=True)
