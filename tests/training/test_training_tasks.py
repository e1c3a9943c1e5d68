from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deploy.errors import CheckpointError
from deploy.families.idm.network import IdmNetwork
from deploy.families.latent.network import LatentNetwork
from deploy.sampling.schedule import NoiseSchedule
from tests.training.small import CPU, SMALL_FIRST_STAGE, SMALL_LATENT, small_held_out, small_idm_task, small_store
from training.first_stage import FirstStageTask, ReconstructionBatches
from training.idm import DEMO_IDM, IdmBatches
from training.latent import DEMO_LATENT, LatentBatches, LatentTask, read_first_stage
from training.loop import WEIGHTS_FILE, Settings, Task, train
from training.noising import NoiseLevels, error_ratio, noised, sums_by_third, weighted_error

SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)


def overfitted(task: Task, steps: int, learning_rate: float) -> tuple[float, float]:
    """The loss of one and the same batch before and after training on nothing else."""
    optimizer = torch.optim.Adam([p for p in task.network.parameters() if p.requires_grad], lr=learning_rate)
    values = []
    for _ in range(steps):
        losses = task.losses(0, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        values.append(float(losses.total.detach()))
    return values[0], values[-1]


def small_first_stage_task() -> FirstStageTask:
    batches = ReconstructionBatches(pixels=2 * 24 * 24, side=16, any_side=(16, 24))
    return FirstStageTask(small_store(), small_held_out(), config=SMALL_FIRST_STAGE, batches=batches)


@pytest.fixture
def first_stage_file(tmp_path: Path) -> Path:
    train(small_first_stage_task(), Settings(out=tmp_path / "first", steps=1), lambda _line: None)
    return tmp_path / "first" / WEIGHTS_FILE


def small_latent_task(first_stage: Path) -> LatentTask:
    return LatentTask(
        small_store(),
        small_held_out(side=32),
        first_stage,
        config=SMALL_LATENT,
        batches=LatentBatches(pixels=2 * 32 * 32, any_side=(16, 36)),
    )


def test_idm_training_overfits_one_batch() -> None:
    before, after = overfitted(small_idm_task(), 150, 3e-3)
    assert after < 0.35 * before


def test_first_stage_training_overfits_one_batch() -> None:
    before, after = overfitted(small_first_stage_task(), 80, 5e-3)
    assert after < 0.35 * before


def test_latent_training_overfits_one_batch_and_leaves_the_first_stage_alone(first_stage_file: Path) -> None:
    task = small_latent_task(first_stage_file)
    before, after = overfitted(task, 100, 3e-3)
    assert after < 0.5 * before
    stored = load_file(first_stage_file)
    assert all(
        torch.equal(tensor.half(), stored[name]) for name, tensor in task.network.first_stage_model.state_dict().items()
    )


def test_the_latent_checkpoint_loads_strictly_with_unit_deviation_latents(
    first_stage_file: Path, tmp_path: Path
) -> None:
    task = small_latent_task(first_stage_file)
    train(task, Settings(out=tmp_path / "latent", steps=2), lambda _line: None)
    network = LatentNetwork(SMALL_LATENT)
    network.load_state_dict(load_file(tmp_path / "latent" / WEIGHTS_FILE))
    latents = network.latent_from_image(small_held_out(32, 32)).detach()
    # The factor comes from another batch of the same pictures.
    assert float(latents.std()) == pytest.approx(1.0, rel=0.25)
    assert network.scale_factor.dtype == torch.float32


def test_missing_first_stage_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There are no auto-encoder weights at .*; train them"):
        read_first_stage(tmp_path / "none.safetensors", SMALL_FIRST_STAGE)


def test_first_stage_weights_of_another_configuration_are_refused(first_stage_file: Path) -> None:
    with pytest.raises(CheckpointError, match="has another configuration than the latent model expects"):
        read_first_stage(first_stage_file, DEMO_LATENT.first_stage)


def test_checks_report_figures_of_held_out_pictures(first_stage_file: Path) -> None:
    with torch.no_grad():
        assert "agreement 1:1/2, 2:1/2, 2:1" in small_first_stage_task().check()
        assert "auto-encoder's limit" in small_latent_task(first_stage_file).check()
        assert "5 from 0.5" in small_idm_task().check()


@pytest.mark.parametrize("step", range(6))
def test_every_batch_shape_gives_finite_losses(step: int, first_stage_file: Path) -> None:
    for task in (small_idm_task(), small_first_stage_task(), small_latent_task(first_stage_file)):
        losses = task.losses(step, torch.Generator().manual_seed(step))
        assert torch.isfinite(losses.total) and torch.isfinite(losses.parts).all()
        assert losses.parts.shape == (len(task.part_names), 2)


def test_the_demo_checkpoints_stay_below_12_megabytes() -> None:
    with torch.device("meta"):
        networks = IdmNetwork(DEMO_IDM), LatentNetwork(DEMO_LATENT)
    for network in networks:
        parameters = sum(parameter.numel() for parameter in network.parameters())
        buffers = sum(buffer.numel() for buffer in network.buffers())
        assert 2 * parameters + 4 * buffers + 100_000 < 12e6


def test_idm_batches_cover_the_scales_and_cost_about_the_same() -> None:
    batches, rng = IdmBatches(), np.random.default_rng(0)
    plans = [batches.plan(rng, 8.0) for _ in range(400)]
    scales = [plan.size[1] / plan.low_size[1] for plan in plans]
    assert 1.4 <= min(scales) < 1.6 and 7.5 < max(scales) <= 8.6
    assert 0.25 < np.mean(np.isclose(scales, 4.0)) < 0.45
    assert 0.8 < np.mean([plan.common for plan in plans]) < 0.95
    assert all(plan.size[0] == plan.size[1] for plan in plans if plan.common)
    assert any(plan.size[0] % 2 and plan.size[0] != plan.size[1] for plan in plans)
    pixels = [plan.count * plan.size[0] * plan.size[1] for plan in plans]
    assert max(pixels) <= batches.pixels and min(pixels) > 0.8 * batches.pixels


def test_latent_batches_need_no_padding() -> None:
    rng = np.random.default_rng(0)
    plans = [LatentBatches().plan(rng, 128, 16) for _ in range(200)]
    assert all(side % 16 == 0 for plan in plans for side in plan.size)
    assert {plan.size for plan in plans if plan.common} == {(128, 128)}


def test_reconstruction_batches_encode_sizes_that_divide() -> None:
    rng = np.random.default_rng(0)
    plans = [ReconstructionBatches().plan(rng, 4) for _ in range(200)]
    assert all(side % 4 == 0 for plan in plans for side in plan.encoded)
    assert all(s >= e for plan in plans for s, e in zip(plan.source, plan.encoded, strict=True))
    assert len({plan.source for plan in plans if plan.common}) == 1


def test_noise_levels_lie_between_a_timesteps_own_and_the_one_before() -> None:
    levels = NoiseLevels.from_schedule(SCHEDULE, CPU, clean_share=0.25)
    timestep, level = levels.draw_levels(2000, torch.Generator().manual_seed(0))
    own = torch.from_numpy(SCHEDULE.noise_levels.astype(np.float32))
    before = torch.cat([torch.ones(1), own[:-1]])
    assert (level >= own[timestep]).all() and (level <= before[timestep]).all()
    # A quarter extra for the cleanest 3/8: 0.25 + 0.75 * 0.375 = 0.53 of all draws.
    assert float((timestep < 750).float().mean()) == pytest.approx(0.53, abs=0.04)
    assert int(timestep.min()) < 20 and int(timestep.max()) > 1980


def test_noising_keeps_unit_variance_and_the_ratio_is_the_pictures_error() -> None:
    picture, noise, level = torch.tensor([[[[2.0]]]]), torch.tensor([[[[-1.0]]]]), torch.tensor([0.6])
    torch.testing.assert_close(noised(picture, noise, level), torch.tensor([[[[0.6 * 2 - 0.8]]]]))
    torch.testing.assert_close(error_ratio(level), torch.tensor([0.8 / 0.6]))


def test_a_cast_at_high_noise_costs_more_than_as_much_error_without_one() -> None:
    cast = torch.full((1, 3, 16, 16), 0.01)
    checks = cast * (1 - 2 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2))
    noisy, clean = torch.tensor([0.01]), torch.tensor([0.9])
    assert error_ratio(noisy) > 32
    # 0.01 * 4 for the size, 0.25 * 0.01 * 32 for the coarse part.
    torch.testing.assert_close(weighted_error(cast, noisy), torch.tensor([0.04 + 0.08]))
    torch.testing.assert_close(weighted_error(checks, noisy), torch.tensor([0.04]), atol=1e-6, rtol=0)
    torch.testing.assert_close(weighted_error(checks, clean), torch.tensor([0.01]), atol=1e-6, rtol=0)


def test_sums_by_third_count_every_item_once() -> None:
    values, timestep = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0, 333, 334, 999])
    found = sums_by_third(values, timestep, 1000)
    assert found.tolist() == [[3.0, 2.0], [4.0, 1.0], [8.0, 1.0]]
