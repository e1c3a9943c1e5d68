"""The loop in strips is the reference loop, whatever the size of the strips."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import deploy.picture.strips as sampler
from deploy.errors import OutputError
from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.images import tiles
from deploy.picture.memory import StateArrays
from deploy.sampling.loop import run_plan
from deploy.sampling.loop import starting_state as reference_start
from deploy.sampling.plan import PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
SHAPE = (2, 3, 21, 10)
GENERATOR = np.random.default_rng(8)
NOISE = {index: GENERATOR.standard_normal(SHAPE).astype(np.float32) for index in range(-1, 9)}
PICTURE = GENERATOR.uniform(-1, 1, SHAPE).astype(np.float32)


def noise(index: int, rows: slice) -> NDArray[np.float32]:
    return NOISE[index][:, :, rows]


@pytest.mark.parametrize("values", [1 << 20, 2 * 3 * 10 * 4, 1])
@pytest.mark.parametrize(
    "settings", [{"equation": "ddpm"}, {"equation": "ddim", "start": 0.4}, {"equation": "dpmpp-3m"}]
)
def test_strips_change_nothing(values: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "VALUES_PER_STRIP", values)
    plan = make_plan(IDM, PlanSettings(**{"steps": 9} | settings), rules=IDM_SAMPLING)
    picture = PICTURE if "start" in settings else None

    def adjusted(x0: NDArray[Any], *_: Any) -> None:
        x0 *= np.float32(0.9)

    start = reference_start(plan, NOISE[-1], picture)
    network: Any = lambda x, *_: np.tanh(x)  # noqa: E731
    expected = run_plan(plan, network, start, lambda index: NOISE[index], adjust_estimate=adjusted)
    with StateArrays() as arrays:
        guess = None if picture is None else lambda rows: PICTURE[:, :, rows]
        x = sampler.starting_state(plan, SHAPE, arrays, noise, guess)
        np.testing.assert_array_equal(x, start)

        def adjust(estimate: NDArray[np.float32]) -> None:
            estimate *= np.float32(0.9)

        sampler.run_in_strips(plan, network, x, arrays, noise, adjust_estimate=adjust)
    np.testing.assert_array_equal(x, expected)


def test_pictures_made_together_are_cut_where_each_is_cut_alone() -> None:
    """Strips are resized by matrix products, which add up in another order where they are cut elsewhere."""
    for side in (128, 3000):
        together, alone = (list(tiles.strips_of_rows((batch, 3, side, side))) for batch in (8, 1))
        assert together == alone and len(alone) == -(-side // max(1, tiles.VALUES_PER_STRIP // (3 * side)))


def test_a_value_that_is_no_number_is_found_in_any_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "VALUES_PER_STRIP", 1)
    plan = make_plan(IDM, PlanSettings(steps=5), rules=IDM_SAMPLING)

    def network(x: NDArray[np.float32], _row: PlanRow, index: int) -> NDArray[np.float32]:
        made = np.zeros_like(x)
        made[1, 2, 20, 9] = np.nan if index == 2 else 0.0
        return made

    with StateArrays() as arrays, pytest.raises(OutputError, match=r"Step 3 of 5 .* not finite .*fp32"):
        sampler.run_in_strips(plan, network, np.zeros(SHAPE, np.float32), arrays, noise)


def test_the_arrays_a_run_holds_stay_within_64_bytes_per_pixel() -> None:
    for equation in ("ddpm", "ddim", "dpmpp-2m", "dpmpp-3m"):
        plan = make_plan(IDM, PlanSettings(equation=equation, steps=9), rules=IDM_SAMPLING)
        assert 12 * sampler.state_arrays_needed(plan) <= 64
