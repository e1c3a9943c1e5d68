"""One step is the same in NumPy and as the graph that an engine runs on its device."""

import numpy as np
import onnx
import pytest

from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule
from deploy.sampling.step import Array, advance, estimate_picture, steps_on_device, update_graph
from tests.engines.following import updated

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
GENERATOR = np.random.default_rng(8)
START = GENERATOR.standard_normal((2, 3, 4, 5)).astype(np.float32)
NOISE = GENERATOR.standard_normal((9, *START.shape)).astype(np.float32)


def test_by_hand() -> None:
    """The example of the module's docstring."""
    row = PlanRow(noise_level=0.5, sigma=0.5, timestep=0, x=0.5, x0=(0.5,), noise=0.0, clip=True)
    x, y = np.ones(1, np.float32), np.full(1, 0.5, np.float32)
    estimate, scratch = np.empty_like(x), np.empty_like(x)
    estimate_picture(row, x, y, out=estimate, scratch=scratch)
    assert estimate.item() == 1.5
    advance(row, x, [np.minimum(estimate, 1)], None, scratch)
    assert x.item() == 1.0


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("estimates", "noises"), [(1, None), (2, None), (3, None), (1, 0), (1, 3)])
def test_the_graph_of_a_step_is_a_valid_model(estimates: int, noises: int | None, fresh: bool) -> None:
    graph = update_graph(estimates, fresh=fresh, noises=noises)
    onnx.checker.check_model(onnx.load_model_from_string(graph), full_check=True)


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("equation", ["ddim", "ddpm", "pndm", "dpmpp-2m", "dpmpp-3m"])
def test_the_graphs_of_a_plan_make_the_sample_that_the_loop_makes(equation: str, clip: bool) -> None:
    plan = make_plan(IDM, PlanSettings(equation=equation, steps=9, clip=clip), rules=IDM_SAMPLING)

    def network(x: Array, row: PlanRow, _index: int) -> Array:
        predicted: Array = np.tanh(x) * np.float32(0.8 + 0.1 * row.noise_level)
        return predicted

    x, kept, begun = np.array(START), list[Array](), list[int]()
    for row, step in zip(plan.rows, steps_on_device(plan, lambda index: NOISE[index], begun.append), strict=True):
        x = updated(step, x, network(x, row, 0), kept)
    assert begun == list(range(9))
    np.testing.assert_array_equal(x, run_plan(plan, network, START, lambda index: NOISE[index]))
