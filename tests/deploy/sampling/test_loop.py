"""The loop follows its plan exactly, asks for no more than it needs, and stops at values that are not numbers."""

from typing import Any

import numpy as np
import pytest

from deploy.errors import OutputError
from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.sampling.loop import Array, run_plan, starting_state
from deploy.sampling.plan import Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
GENERATOR = np.random.default_rng(8)
START = GENERATOR.standard_normal((2, 3, 4, 5)).astype(np.float32)
NOISE = GENERATOR.standard_normal((9, *START.shape)).astype(np.float32)


def plan_of(**options: Any) -> Plan:
    return make_plan(IDM, PlanSettings(**({"steps": 9} | options)), rules=IDM_SAMPLING)


def network(x: Array, row: PlanRow, _index: int) -> Array:
    predicted: Array = np.tanh(x) * np.float32(0.8 + 0.1 * row.noise_level)
    return predicted


def noise_of_step(index: int) -> Array:
    fresh: Array = NOISE[index]
    return fresh


def no_noise(index: int) -> Array:
    raise AssertionError(f"noise was asked for at step {index}")


@pytest.mark.parametrize(
    "options",
    [
        {"equation": "ddpm"},
        {"equation": "ddim", "eta": 0.5, "clip": False},
        {"equation": "dpmpp-2m"},
        {"equation": "dpmpp-3m", "start": 0.4},
    ],
)
def test_each_step_is_exactly_the_rows_sum(options: dict[str, Any]) -> None:
    plan = plan_of(**options)
    x = START.astype(np.float64)
    past: list[Array] = []
    for index, row in enumerate(plan.rows):
        x0 = (x - row.sigma * network(x, row, index)) / row.noise_level
        past.insert(0, np.clip(x0, -1, 1) if row.clip else x0)
        x = row.x * x + sum(c * estimate for c, estimate in zip(row.x0, past, strict=False)) + row.noise * NOISE[index]
    sampled = run_plan(plan, network, START, noise_of_step)
    assert sampled.dtype == np.float32
    # float32 against float64: nine steps of rounding (6e-8), amplified 150 times where the estimate divides by alpha.
    np.testing.assert_allclose(sampled, x, rtol=1e-4, atol=1e-4 * np.abs(x).max())


def test_the_start_is_left_as_it_was_and_noise_is_asked_for_only_where_it_is_added() -> None:
    before = START.copy()
    run_plan(plan_of(), network, START, no_noise)
    np.testing.assert_array_equal(START, before)
    asked: list[int] = []

    def noise(index: int) -> Array:
        asked.append(index)
        return noise_of_step(index)

    run_plan(plan_of(equation="ddpm"), network, START, noise)
    assert asked == list(range(8))  # the last step adds none


def test_evaluations_are_counted_and_see_the_row_of_their_step() -> None:
    plan = plan_of(equation="dpmpp-2m")
    seen = []

    def counting(x: Array, row: PlanRow, index: int) -> Array:
        seen.append((index, row))
        return network(x, row, index)

    run_plan(plan, counting, START, no_noise)
    assert seen == list(enumerate(plan.rows))


def test_an_adjusted_estimate_is_used_now_and_remembered() -> None:
    # If every estimate is replaced by the same picture, every equation must end at that picture.
    picture = np.full_like(START, 0.25)
    for equation in ("ddim", "dpmpp-2m", "dpmpp-3m"):
        adjusted = run_plan(
            plan_of(equation=equation), network, START, no_noise, adjust_estimate=lambda x0, _row, _index: x0.fill(0.25)
        )
        np.testing.assert_allclose(adjusted, picture, rtol=1e-6)


def test_the_adjustment_sees_clipped_estimates() -> None:
    extremes = []

    def look(x0: Array, _row: PlanRow, _index: int) -> None:
        extremes.append(float(np.abs(x0).max()))

    run_plan(plan_of(), network, START, no_noise, adjust_estimate=look)
    assert len(extremes) == 9 and max(extremes) == 1.0


def test_the_batch_does_not_matter() -> None:
    plan = plan_of(equation="ddpm")
    together = run_plan(plan, network, START, noise_of_step)
    for item in range(2):
        alone = run_plan(plan, network, START[item : item + 1], lambda i, n=item: NOISE[i][n : n + 1])  # type: ignore[misc]
        np.testing.assert_array_equal(alone[0], together[item])


def test_the_starting_state_is_noise_or_a_picture_noised_to_the_first_level() -> None:
    noise = NOISE[0]
    pure = starting_state(plan_of(), noise)
    np.testing.assert_array_equal(pure, noise)
    assert pure is not noise
    noised = starting_state(plan_of(start=0.6), noise, np.full_like(noise, 0.5))
    np.testing.assert_allclose(noised, 0.6 * 0.5 + 0.8 * noise, atol=1e-6)
    assert noised.dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stop_the_run_with_step_values_and_cure(bad: float) -> None:
    def failing(x: Array, _row: PlanRow, index: int) -> Array:
        predicted = np.linspace(-2, 3, x.size, dtype=np.float32).reshape(x.shape)
        if index == 4:
            predicted[0, 1, 2, 3] = bad
        return predicted

    message = (
        r"Step 5 of 9 \(noise level 0\.2\d+, timestep 1110\): of 120 values .* predicted 1 are not finite and the "
        r"others from -2 to 3, .* use a wider precision \(fp32\)"
    )
    with pytest.raises(OutputError, match=message):
        run_plan(plan_of(), failing, START, no_noise)


def test_an_estimate_that_overflows_stops_the_run() -> None:
    def huge(x: Array, _row: PlanRow, _index: int) -> Array:
        return np.full_like(x, 3e38)

    with pytest.raises(OutputError, match=r"Step 1 of 9 .* 0 are not finite and the others from 3e\+38 to 3e\+38"):
        run_plan(plan_of(), huge, START, no_noise)


def test_nothing_but_bad_values_stops_the_run() -> None:
    with pytest.raises(OutputError, match="120 are not finite and the others absent"):
        run_plan(plan_of(), lambda x, _row, _index: np.full_like(x, np.nan), START, no_noise)
