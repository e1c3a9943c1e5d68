"""Noise schedules against the tables recorded from both official implementations, and as records."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.errors import ConfigError
from deploy.sampling.beta_rules import BETA_RULES
from deploy.sampling.schedule import (
    NoiseSchedule,
    log_snr_from_noise_level,
    noise_level_from_log_snr,
)
from tests.deploy.sampling.recordings import recording, tables

IDM = ("linear", 2000, 1e-6, 1e-2)
# (recording, case, the arguments the official code was given)
RECORDED = [
    ("idm_schedule", "linear_2000_1e-6_1e-2", IDM),
    ("idm_schedule", "linear_20_0.0001_0.5", ("linear", 20, 1e-4, 0.5)),
    ("idm_schedule", "linear_400_1e-6_1e-2", ("linear", 400, 1e-6, 1e-2)),
    ("latent_schedule", "sqrtlinear_0.0001_0.015", ("sqrtlinear", 1000, 0.0001, 0.015)),
    ("latent_schedule", "sqrtlinear_0.0015_0.0155", ("sqrtlinear", 1000, 0.0015, 0.0155)),
    ("latent_schedule", "sqrtlinear_0.0015_0.0195", ("sqrtlinear", 1000, 0.0015, 0.0195)),
]


@pytest.mark.parametrize(("name", "case", "arguments"), RECORDED)
def test_every_stored_buffer_is_reproduced_to_the_last_bit(
    name: str, case: str, arguments: tuple[str, int, float, float]
) -> None:
    recorded = tables(name, case)
    mine = NoiseSchedule.from_kind(*arguments).training_tables()
    assert len(mine) == 12
    for key, table in mine.items():
        np.testing.assert_array_equal(table.astype(np.float32), recorded[key], err_msg=key)


@pytest.mark.parametrize(("name", "case", "arguments"), RECORDED)
def test_stored_betas_give_back_the_kind_and_the_unrounded_table(
    name: str, case: str, arguments: tuple[str, int, float, float]
) -> None:
    schedule = NoiseSchedule.from_betas(recording(name)[f"{case}/betas"])
    assert (schedule.kind, schedule.timesteps, schedule.start, schedule.end) == arguments
    assert schedule == NoiseSchedule.from_kind(*arguments)


@pytest.mark.parametrize("case", [case for name, case, _ in RECORDED if name == "idm_schedule"])
def test_noise_levels_equal_the_conditioning_values_of_idm(case: str) -> None:
    recorded = tables("idm_schedule", case)["sqrt_alphas_cumprod_prev_f64"]  # entry t+1 is timestep t
    schedule = NoiseSchedule.from_betas(tables("idm_schedule", case)["betas"])
    np.testing.assert_array_equal(schedule.noise_levels, recorded[1:])
    assert schedule.noise_level(7) == recorded[8]
    np.testing.assert_array_equal(schedule.alpha_bar_previous, np.append(1.0, schedule.alpha_bar[:-1]))


@pytest.mark.parametrize("kind", ["quad", "warmup10", "warmup50", "const", "jsd", "cosine"])
def test_every_other_kind_equals_its_recording(kind: str) -> None:
    recorded = recording("idm_schedule")[f"betas_{kind}_40_1e-4_2e-2_f64"]
    np.testing.assert_array_equal(NoiseSchedule.from_kind(kind, 40, 1e-4, 2e-2).betas, recorded)
    np.testing.assert_array_equal(NoiseSchedule.from_betas(recorded.astype(np.float32)).betas, recorded)


def test_quad_and_sqrtlinear_are_one_kind() -> None:
    assert NoiseSchedule.from_kind("quad", 9, 1e-4, 0.02).kind == "sqrtlinear"


def test_betas_of_no_known_kind_are_used_as_stored() -> None:
    stored = np.array([0.1, 0.3, 0.2], dtype=np.float32)
    schedule = NoiseSchedule.from_betas(stored)
    assert schedule.kind is None
    np.testing.assert_array_equal(schedule.betas, stored.astype(np.float64))
    np.testing.assert_allclose(schedule.alpha_bar, [0.9, 0.63, 0.504], rtol=1e-7)  # float32 betas
    assert str(schedule) == "explicit, 3 timesteps"


@given(
    kind=st.sampled_from(sorted(BETA_RULES)),
    timesteps=st.integers(1, 60),
    start=st.floats(1e-6, 0.1),
    end=st.floats(1e-6, 0.9),
)
def test_a_record_gives_back_the_same_schedule_through_json(
    kind: str, timesteps: int, start: float, end: float
) -> None:
    schedule = NoiseSchedule.from_kind(kind, timesteps, start, end)
    explicit = NoiseSchedule(betas=schedule.betas)
    for original in (schedule, explicit):
        again = NoiseSchedule.from_dict(json.loads(json.dumps(original.as_dict())))
        assert again == original and hash(again) == hash(original)
        assert (again.kind, again.start, again.end) == (original.kind, original.start, original.end)


def test_a_record_says_no_more_than_its_kind_uses() -> None:
    assert NoiseSchedule.from_kind(*IDM).as_dict() == {
        "kind": "linear",
        "timesteps": 2000,
        "start": 1e-6,
        "end": 0.01,
    }
    assert NoiseSchedule.from_kind("cosine", 8, 1e-4, 0.02).as_dict() == {"kind": "cosine", "timesteps": 8}
    assert str(NoiseSchedule.from_kind(*IDM)) == "linear, 2000 timesteps, beta 1e-06 to 0.01"


def test_schedules_differ_from_others_and_from_other_things() -> None:
    assert NoiseSchedule.from_kind(*IDM) != NoiseSchedule.from_kind("linear", 1999, 1e-6, 1e-2)
    assert NoiseSchedule.from_kind(*IDM) != "linear"


def test_tables_cannot_be_written_to_and_the_caller_keeps_his() -> None:
    betas = np.array([0.1, 0.2])
    schedule = NoiseSchedule(betas=betas)
    betas[0] = 0.5
    assert schedule.betas[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        schedule.alpha_bar[0] = 1.0


@given(st.floats(-30, 30))
def test_log_snr_and_noise_level_are_inverse(log_snr: float) -> None:
    # Near level 1 the logarithm sees 1 - level^2, whose float64 rounding error is 1e-16/exp(-30) = 1e-3.
    assert log_snr_from_noise_level(noise_level_from_log_snr(log_snr)) == pytest.approx(log_snr, abs=5e-3)


def test_log_snr_by_hand() -> None:
    assert log_snr_from_noise_level(math.sqrt(0.5)) == pytest.approx(0.0, abs=1e-15)
    assert log_snr_from_noise_level(math.sqrt(0.8)) == pytest.approx(math.log(4))
    assert log_snr_from_noise_level(0.0) == -math.inf and log_snr_from_noise_level(1.0) == math.inf
    np.testing.assert_allclose(NoiseSchedule(betas=np.array([0.2, 0.375])).log_snr, [math.log(4), 0], atol=1e-15)


def test_the_nearest_timestep_of_a_timesteps_own_level_is_that_timestep() -> None:
    for arguments in (IDM, ("jsd", 30), ("const", 1, None, 0.5)):
        schedule = NoiseSchedule.from_kind(*arguments)
        for timestep in {0, 1, 17, schedule.timesteps // 2, schedule.timesteps - 1}:
            if timestep < schedule.timesteps:
                assert schedule.nearest_timestep(schedule.noise_level(timestep)) == timestep


def test_the_nearest_timestep_beyond_the_ends_is_the_end() -> None:
    schedule = NoiseSchedule.from_kind(*IDM)
    assert schedule.nearest_timestep(1.0) == 0
    assert schedule.nearest_timestep(0.0) == 1999


@pytest.mark.parametrize("timestep", [-1, 2000])
def test_a_timestep_outside_the_schedule_is_a_programming_error(timestep: int) -> None:
    with pytest.raises(IndexError, match=f"timestep {timestep} is outside"):
        NoiseSchedule.from_kind(*IDM).noise_level(timestep)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'consine' is unknown, the nearest is 'cosine'"):
        NoiseSchedule.from_kind("consine", 10)


def test_all_wrong_parameters_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"from 1 to 100000, found 0; beta start .* found None; beta end .* 2"):
        NoiseSchedule.from_kind("linear", 0, None, 2)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        (np.zeros((2, 2)), r"one-dimensional table of betas, found shape \(2, 2\)"),
        (np.array([]), r"found shape \(0,\)"),
        (np.array([0.1, -0.1]), "beta 1 of 2 is -0.1"),
        (np.array([1.0, 0.1]), "beta 0 of 2 is 1"),
        (np.array([0.1, np.nan]), "beta 1 of 2 is nan"),
        (np.array([1e-20, 0.1]), "beta 0 of 2 is 1e-20"),
    ],
)
def test_betas_that_are_no_schedule_are_refused(betas: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NoiseSchedule.from_betas(betas)


def test_a_malformed_record_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown key 'stat'; did you mean 'start'"):
        NoiseSchedule.from_dict({"kind": "linear", "timesteps": 3, "stat": 1e-4, "end": 0.02})
    with pytest.raises(ConfigError, match="lacks timesteps"):
        NoiseSchedule.from_dict({"kind": "linear"})
