"""Denoising equations against the official runs, the official tables and the exact solution for Gaussian data."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.families.latent.model import SAMPLING as LATENT_SAMPLING
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import MeasuredNoise, Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from tests.deploy.sampling.gaussian import DEVIATION, MEAN, sampled_moments, solver_error
from tests.deploy.sampling.recordings import tables

Array = NDArray[np.floating[Any]]
RULES = {"idm": IDM_SAMPLING, "latent": LATENT_SAMPLING}
IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
SR = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0001, 0.015)  # of latent_sr_tiny
GENERATION = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0195)  # of latent_gen_tiny

# The bound for recorded runs: relative to the largest value, at each step and at the end.
RECORDED_TOLERANCE = 1e-3
STEPWISE = [
    ("sr/ddim_S10_eta0", SR),
    ("sr/ddim_S10_eta1", SR),
    ("sr_batch2/ddim_S4_eta1", SR),
    ("gen/ddim_S10_eta0", GENERATION),
    ("gen/ddim_S10_eta1", GENERATION),
]


def recorded_plan(case: str, schedule: NoiseSchedule) -> tuple[dict[str, Array], Plan]:
    run = tables("latent_sampling_tiny", case)
    published = PlanSettings(equation="ddim", steps=int(run["S"]), eta=float(run["eta"]), published=True)
    return run, make_plan(schedule, published, rules=LATENT_SAMPLING)


def relative_error(mine: Array, recorded: Array) -> float:
    return float(np.abs(mine - recorded).max() / np.abs(recorded).max())


@pytest.mark.parametrize(("case", "schedule"), STEPWISE)
def test_each_published_latent_step_is_the_recorded_one(case: str, schedule: NoiseSchedule) -> None:
    run, plan = recorded_plan(case, schedule)
    states = [run["x_T"], *run["x_steps"]]
    assert len(plan) == len(run["x_steps"])
    for index, row in enumerate(plan.rows):
        following = row.x * states[index] + row.x0[0] * run["pred_x0_steps"][index]
        if row.noise:
            following = following + row.noise * run["step_noise"][index]
        assert relative_error(following, states[index + 1]) < RECORDED_TOLERANCE


@pytest.mark.parametrize(("case", "schedule"), STEPWISE)
def test_a_published_latent_run_ends_where_the_recorded_one_does(case: str, schedule: NoiseSchedule) -> None:
    run, plan = recorded_plan(case, schedule)
    states = [run["x_T"], *run["x_steps"]]

    def recorded_network(_x: Array, row: PlanRow, index: int) -> Array:
        noise: Array = (states[index] - row.noise_level * run["pred_x0_steps"][index]) / row.sigma
        return noise.astype(np.float32)

    sampled = run_plan(plan, recorded_network, run["x_T"], lambda index: run["step_noise"][index])
    assert relative_error(sampled, run["z"]) < RECORDED_TOLERANCE
    assert sampled.dtype == np.float32


def implied_estimates(plan: Plan, states: list[Array], noise: list[Array]) -> list[Array]:
    """The x0 that each recorded step must have used, in float64."""
    return [
        (states[i + 1].astype(np.float64) - row.x * states[i] - row.noise * noise[i]) / row.x0[0]
        for i, row in enumerate(plan.rows)
    ]


@pytest.mark.parametrize(
    "case",
    [
        "ddpm_T20_wide_32",
        "ddpm_T20_official_ends_27",
        "ddpm_T20_wide_24_batch2",
        "ddpm_T20_wide_h20_w36_corrected",
    ],
)
def test_the_recorded_ancestral_runs_of_idm_imply_estimates_clipped_to_the_picture_range(case: str) -> None:
    # The synthetic network overshoots at a large share of pixels, so with the right coefficients, and only with
    # them, the estimates that the recorded steps imply pile up at exactly -1 and 1.
    run = tables("idm_sampling_tiny", case)
    schedule = NoiseSchedule.from_kind("linear", 20, float(run["linear_start"]), float(run["linear_end"]))
    plan = make_plan(schedule, PlanSettings(equation="ddpm", steps=20, published=True), rules=IDM_SAMPLING)
    assert all(row.clip for row in plan.rows)
    states = [run["noise"][0], *run["x_steps"]]
    noise = [*run["noise"][1:], np.zeros_like(run["noise"][0])]
    for row, estimate in zip(plan.rows, implied_estimates(plan, states, noise), strict=True):
        rounding = 1e-6 / row.x0[0]  # states of up to 4 in float32, rounded a few times, over the coefficient
        assert np.abs(estimate).max() < 1 + rounding
        assert np.mean(np.abs(np.abs(estimate) - 1) < rounding) > 0.1
    np.testing.assert_array_equal(np.abs(states[-1]).max(), 1)


def test_the_recorded_ancestral_run_of_the_latent_model_is_not_clipped() -> None:
    run = tables("latent_sampling_tiny", "sr/ancestral_T20")
    start = SR.noise_level(19)
    plan = make_plan(SR, PlanSettings(equation="ddpm", steps=20, start=start), rules=LATENT_SAMPLING)
    assert [row.timestep for row in plan.rows] == list(range(19, -1, -1))
    assert not any(row.clip for row in plan.rows)
    states = [run["x_T"], *run["x_steps"]]
    for estimate in implied_estimates(plan, states, list(run["step_noise"])):
        assert 3 < np.abs(estimate).max() < 4  # a latent of unit variance; clipping would leave 1
    np.testing.assert_array_equal(run["z"], run["x_steps"][-1])


@pytest.mark.parametrize(
    ("name", "case", "schedule", "family"),
    [
        ("idm_schedule", "linear_2000_1e-6_1e-2", IDM, "idm"),
        ("idm_schedule", "linear_20_0.0001_0.5", NoiseSchedule.from_kind("linear", 20, 1e-4, 0.5), "idm"),
        ("latent_schedule", "sqrtlinear_0.0001_0.015", SR, "latent"),
    ],
)
def test_ancestral_coefficients_on_every_timestep_are_the_official_tables(
    name: str, case: str, schedule: NoiseSchedule, family: str
) -> None:
    recorded = tables(name, case)
    plan = make_plan(schedule, PlanSettings(equation="ddpm", steps=schedule.timesteps), rules=RULES[family])
    rows = plan.rows[::-1]  # by timestep
    x0, x, noise = np.array([(row.x0[0], row.x, row.noise) for row in rows], dtype=np.float32).T
    np.testing.assert_array_equal(x0, recorded["posterior_mean_coef1"])
    np.testing.assert_array_equal(x, recorded["posterior_mean_coef2"])
    # The official deviation is exp(log variance / 2) of a float32 logarithm of up to 46: 46*6e-8/2 relative.
    np.testing.assert_allclose(noise[1:], np.exp(recorded["posterior_log_variance_clipped"][1:] / 2), rtol=2e-6)
    assert rows[0].noise == 0


def test_full_eta_on_every_timestep_has_idms_recorded_noise() -> None:
    # ddim_c1 is the deviation at eta 1, which IDM's code then multiplies by 0; computed there from float32 tables.
    recorded = tables("idm_schedule", "linear_20_0.0001_0.5")["ddim_c1"]
    schedule = NoiseSchedule.from_kind("linear", 20, 1e-4, 0.5)
    plan = make_plan(schedule, PlanSettings(equation="ddim", steps=20, eta=1.0), rules=IDM_SAMPLING)
    np.testing.assert_allclose([row.noise for row in plan.rows[::-1]], recorded, rtol=3e-4)


@pytest.mark.parametrize("count", [4, 10, 50, 200])
def test_the_published_latent_noise_is_the_recorded_one(count: int) -> None:
    recorded = tables("latent_schedule", f"sqrtlinear_0.0015_0.0155/ddim_S{count}_eta1")["sigmas"]
    schedule = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155)
    for eta in (1.0, 0.5):
        settings = PlanSettings(equation="ddim", steps=count, eta=eta, published=True)
        noise = [row.noise for row in make_plan(schedule, settings, rules=LATENT_SAMPLING).rows]
        # From float32 alpha_bar there; 1 - alpha_bar[0] = 1.5e-3 loses 2e-5 of its value to that.
        np.testing.assert_allclose(noise, eta * recorded[:-1][::-1], rtol=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    equation=st.sampled_from(sorted(EQUATIONS)),
    placement=st.sampled_from(["uniform", "logsnr", "quadratic"]),
    steps=st.integers(1, 30),
    picture=st.floats(-1, 1),
)
def test_the_coefficients_keep_a_noised_picture_a_noised_picture(
    equation: str, placement: str, steps: int, picture: float
) -> None:
    # If every estimate is the true picture, the state must stay alpha*picture + sigma*noise: exact for the mean at
    # every step of every equation, because each solves a constant x0 exactly, and 0 noise is left at the end.
    chosen = PlanSettings(equation=equation, steps=steps, placement=placement)
    # The noise that the network predicts is then all of it, of mean square 1.
    plan = make_plan(IDM, chosen, rules=IDM_SAMPLING, measured=MeasuredNoise(noise_levels=(0.5,), mean_squares=(1.0,)))
    levels = [*(row.noise_level for row in plan.rows), plan.end_noise_level]
    sigmas = [*(row.sigma for row in plan.rows), 0.0]
    for index, row in enumerate(plan.rows):
        mean = row.x * levels[index] * picture + sum(row.x0) * picture
        assert mean == pytest.approx(levels[index + 1] * picture, abs=1e-9)
        left = row.x * sigmas[index] + sum(row.eps)
        assert np.hypot(left, row.noise) == pytest.approx(sigmas[index + 1], abs=1e-9)
    if not plan.earlier_noises and equation != "pndm":
        assert (plan.rows[-1].x, plan.rows[-1].noise) == (0.0, 0.0)
        assert plan.rows[-1].x0[0] == pytest.approx(1.0)


def errors(equation: str, placement: str, steps: list[int]) -> Array:
    return np.array(
        [
            solver_error(
                make_plan(
                    IDM,
                    PlanSettings(equation=equation, steps=n, placement=placement, clip=False),
                    rules=IDM_SAMPLING,
                )
            )
            for n in steps
        ]
    )


@pytest.mark.parametrize(
    ("equation", "placement", "order"),
    # On equal log-SNR strides the third-order error of Gaussian data cancels over the trajectory (4.1 is seen).
    [("ddim", "logsnr", 1), ("dpmpp-2m", "logsnr", 2), ("dpmpp-2m", "quadratic", 2), ("dpmpp-3m", "quadratic", 3)],
)
def test_deterministic_equations_converge_at_their_order(equation: str, placement: str, order: int) -> None:
    found = errors(equation, placement, [160, 320, 640])
    slopes = np.log2(found[:-1] / found[1:])
    np.testing.assert_allclose(slopes, order, atol=0.2)  # a neighbouring order would be off by 1


@pytest.mark.parametrize("options", [{"equation": "ddpm"}, {"equation": "ddim", "eta": 0.5}])
@pytest.mark.parametrize("placement", ["logsnr", "uniform"])
def test_random_equations_converge_in_distribution_at_first_order(options: dict[str, Any], placement: str) -> None:
    found = []
    for steps in (400, 800, 1600):
        chosen = PlanSettings(steps=steps, placement=placement, clip=False, **options)
        mean, deviation = sampled_moments(make_plan(IDM, chosen, rules=IDM_SAMPLING))
        assert mean == pytest.approx(MEAN, abs=3e-4)  # N(0, 1) is not quite the distribution at timestep 1999
        found.append(abs(deviation - DEVIATION))
    slopes = np.log2(np.array(found[:-1]) / found[1:])
    np.testing.assert_allclose(slopes, 1, atol=0.1)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_the_analytic_variance_is_exact_for_gaussian_data(steps: int, eta: float) -> None:
    """E[eps^2] = sigma^2/(alpha^2 DEVIATION^2 + sigma^2) there, and q(x_next | x) is a Gaussian with that variance.

    So the states have the true mean and deviation however few the steps are, up to the last, which adds no noise.
    """
    schedule = NoiseSchedule.from_kind("linear", 2000, 1e-6, 4e-2)  # ends in pure noise, where the sampler begins
    known = make_plan(schedule, PlanSettings(steps=2000), rules=IDM_SAMPLING).rows
    squares = tuple((row.sigma / np.hypot(row.noise_level * DEVIATION, row.sigma)) ** 2 for row in known)
    measured = MeasuredNoise(noise_levels=tuple(row.noise_level for row in known), mean_squares=squares)
    chosen = PlanSettings(equation="analytic-dpm", steps=steps, eta=eta, clip=False)
    plan = make_plan(schedule, chosen, rules=IDM_SAMPLING, measured=measured)
    last = plan.rows[-1]
    before = replace(plan, rows=plan.rows[:-1], end_noise_level=last.noise_level)
    mean, deviation = sampled_moments(before)
    assert mean == pytest.approx(last.noise_level * MEAN, abs=1e-6)
    assert deviation == pytest.approx(
        np.hypot(last.noise_level * DEVIATION, last.sigma), rel=1e-5
    )  # 1 - E[eps^2] cancels
    if eta == 1.0 and steps == 5:  # the posterior of the forward process alone is too narrow
        ancestral = make_plan(schedule, PlanSettings(equation="ddpm", steps=steps, clip=False), rules=IDM_SAMPLING)
        narrow = sampled_moments(replace(before, rows=ancestral.rows[:-1], settings=ancestral.settings))[1]
        assert narrow < 0.985 * deviation


def test_at_20_steps_second_order_has_at_most_a_fifth_of_ddims_error_and_third_less() -> None:
    first, second, third = (errors(name, "logsnr", [20])[0] for name in ("ddim", "dpmpp-2m", "dpmpp-3m"))
    assert second <= first / 5
    assert third <= second
