"""The equations against the schedulers of diffusers, on a smooth nonlinear network and the same timesteps.

diffusers keeps alpha_bar in float32, which leaves its levels off by up to 3e-7 relative at the visited timesteps;
this network drives unclipped states to about 165, and 4e-5 of difference was seen there.
"""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, UniPCMultistepScheduler
from diffusers.schedulers import scheduling_ddpm
from numpy.typing import NDArray

from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.sampling.loop import run_plan
from deploy.sampling.plan import PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule

# diffusers 0.42 turns torch tensors into NumPy arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Array = NDArray[np.floating[Any]]
SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
STEPS = 20
COMMON: dict[str, Any] = {
    "num_train_timesteps": 2000,
    "trained_betas": SCHEDULE.betas.astype(np.float32),
    "prediction_type": "epsilon",
    "timestep_spacing": "trailing",
}
TOLERANCE = 1e-4  # see above
GENERATOR = np.random.default_rng(11)
START = GENERATOR.standard_normal((1, 3, 4, 5))
NOISE = GENERATOR.standard_normal((STEPS, *START.shape))


def network(x: Array, timestep: int) -> Array:
    """Some smooth function of the state and the timestep, of the size of noise."""
    noise: Array = np.tanh(1.5 * x) * (0.4 + timestep / 4000) + 0.1 * np.sin(3 * x)
    return noise


def mine(**options: Any) -> Array:
    plan = make_plan(SCHEDULE, PlanSettings(steps=STEPS, **options), rules=IDM_SAMPLING)

    def predict(x: Array, row: PlanRow, _index: int) -> Array:
        return network(x, row.timestep)

    return run_plan(plan, predict, START, lambda index: NOISE[index])


def theirs(scheduler: Any, **step_options: Any) -> Array:
    scheduler.set_timesteps(STEPS)
    assert scheduler.timesteps.tolist() == list(range(1999, 0, -100))
    x = torch.from_numpy(START)
    for index, timestep in enumerate(scheduler.timesteps):
        predicted = torch.from_numpy(network(x.numpy(), int(timestep)))
        options = {key: value[index] if key == "variance_noise" else value for key, value in step_options.items()}
        x = scheduler.step(predicted, timestep, x, **options).prev_sample
    result: Array = x.numpy()
    return result


@pytest.mark.parametrize("clip", [True, False])
def test_ddpm(clip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = iter(torch.from_numpy(NOISE))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_args, **_kwargs: next(fresh))
    scheduler = DDPMScheduler(**COMMON, variance_type="fixed_small", clip_sample=clip)
    np.testing.assert_allclose(mine(equation="ddpm", clip=clip), theirs(scheduler), atol=TOLERANCE)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(clip: bool, eta: float) -> None:
    scheduler = DDIMScheduler(**COMMON, clip_sample=clip, set_alpha_to_one=True)
    # use_clipped_model_output: the noise that remains is recomputed from the clipped estimate, as here.
    expected = theirs(scheduler, eta=eta, use_clipped_model_output=True, variance_noise=torch.from_numpy(NOISE))
    np.testing.assert_allclose(mine(equation="ddim", eta=eta, clip=clip), expected, atol=TOLERANCE)


def test_dpmpp_2m() -> None:
    scheduler = DPMSolverMultistepScheduler(
        **COMMON, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", final_sigmas_type="zero"
    )
    np.testing.assert_allclose(mine(equation="dpmpp-2m", clip=False), theirs(scheduler), atol=TOLERANCE)


def test_dpmpp_3m_is_the_third_order_predictor_of_unipc() -> None:
    scheduler = UniPCMultistepScheduler(
        **COMMON,
        solver_order=3,
        solver_type="bh2",
        predict_x0=True,
        disable_corrector=list(range(STEPS)),
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    np.testing.assert_allclose(mine(equation="dpmpp-3m", clip=False), theirs(scheduler), atol=TOLERANCE)


def test_pndm_is_plms() -> None:
    """Steps are evaluations: the second point is evaluated twice, as PLMS has it, so diffusers visits one less."""
    scheduler = PNDMScheduler(**COMMON, skip_prk_steps=True, set_alpha_to_one=True)
    scheduler.set_timesteps(STEPS)
    x = torch.from_numpy(START)
    for timestep in scheduler.timesteps:
        x = scheduler.step(torch.from_numpy(network(x.numpy(), int(timestep))), timestep, x).prev_sample
    plan = make_plan(SCHEDULE, PlanSettings(steps=STEPS + 1, equation="pndm", clip=False), rules=IDM_SAMPLING)
    visited = [row.timestep for row in plan.rows]
    assert visited == scheduler.timesteps.tolist() and visited[1] == visited[2]
    mine = run_plan(plan, lambda x, row, _index: network(x, row.timestep), START, lambda _index: NOISE[0])
    np.testing.assert_allclose(mine, x.numpy(), atol=TOLERANCE)
