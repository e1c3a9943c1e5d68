"""Plans: what a row holds, which settings are refused, and the known ways in which DDIM fails on such networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deploy.errors import PlanError
from deploy.families.idm.model import SAMPLING as IDM_SAMPLING
from deploy.families.latent.model import SAMPLING as LATENT_SAMPLING
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.loop import PredictNoise, run_plan
from deploy.sampling.placement import point_from_noise_level
from deploy.sampling.plan import MeasuredNoise, Plan, PlanRow, PlanSettings, make_plan
from deploy.sampling.schedule import NoiseSchedule, log_snr_from_noise_level, noise_level_from_log_snr
from tests.deploy.sampling.gaussian import DEVIATION, MEAN, Array, ideal_noise
from tests.deploy.sampling.recordings import tables

IDM = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
LATENT = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155)
MEASURED = MeasuredNoise(noise_levels=(0.1, 0.9), mean_squares=(1.0, 0.5))
RULES = {"idm": IDM_SAMPLING, "latent": LATENT_SAMPLING}
ROW = PlanRow(noise_level=0.5, sigma=0.75**0.5, timestep=3, x=0.0, x0=(1.0,), noise=0.0, clip=True)


def plan_of(family: str = "idm", **options: object) -> Plan:
    schedule = IDM if family == "idm" else LATENT
    return make_plan(schedule, PlanSettings(**options), rules=RULES[family])  # type: ignore[arg-type]


def test_the_default_plan_is_clipped_ddim_of_20_steps_down_to_clean() -> None:
    plan = make_plan(IDM, rules=IDM_SAMPLING)
    assert plan == plan_of(equation="ddim", steps=20, placement="uniform")
    assert len(plan) == 20 and plan.history == 1 and plan.end_noise_level == 1.0
    assert [row.timestep for row in plan.rows] == list(range(1999, 0, -100))
    assert all(row.clip and row.noise == 0 and row.range_index == 0 for row in plan.rows)


def test_a_row_by_hand() -> None:
    # alpha_bar = 0.64 and 0.36: levels 0.8 and 0.6. From the second to the first with eta 0, eq. 12 of DDIM:
    # 0.8*x0 + 0.6*eps with eps = (x - 0.6*x0)/0.8, so 0.75*x + 0.35*x0.
    schedule = NoiseSchedule(betas=np.array([0.36, 1 - 0.36 / 0.64]))
    first, last = make_plan(schedule, PlanSettings(steps=2), rules=IDM_SAMPLING).rows
    assert [first.noise_level, first.sigma, first.timestep] == pytest.approx([0.6, 0.8, 1])
    assert [first.x, *first.x0, first.noise] == pytest.approx([0.75, 0.35, 0])
    assert [last.noise_level, last.x, *last.x0, last.noise] == pytest.approx([0.8, 0, 1, 0])


def test_each_family_gets_what_it_needs() -> None:
    start, steps = 0.5, 7
    idm, latent = plan_of("idm", start=start, steps=steps), plan_of("latent", start=start, steps=steps)
    assert idm.rows[0].noise_level == start and all(row.clip for row in idm.rows)
    nearest = LATENT.nearest_timestep(start)
    assert latent.rows[0].timestep == nearest
    assert not any(row.clip for row in latent.rows)
    assert all(row.noise_level == LATENT.noise_level(row.timestep) for row in latent.rows)


@pytest.mark.parametrize("family", sorted(RULES))
def test_clipping_can_be_chosen(family: str) -> None:
    for clip in (True, False):
        assert all(row.clip is clip for row in plan_of(family, clip=clip).rows)


def test_the_published_ddim_misses_the_last_step_and_does_not_clip() -> None:
    idm = plan_of("idm", steps=200, published=True)
    assert len(idm) == 199 and idm.end_noise_level == IDM.noise_level(0)
    latent = plan_of("latent", steps=200, eta=1.0, published=True)
    assert len(latent) == 199 and latent.rows[0].timestep == 991
    assert latent.rows[-1].noise > 0  # the authors add noise even there
    assert not any(row.clip for row in (*idm.rows, *latent.rows))


def test_a_ddim_that_authors_do_not_have_is_refused() -> None:
    with pytest.raises(
        PlanError, match="authors of this network sample by the ancestral equation alone: ask for `ddpm`"
    ):
        make_plan(IDM, PlanSettings(published=True), rules=replace(IDM_SAMPLING, published_grid=None))


def test_the_published_ancestral_plan_makes_every_step() -> None:
    plan = plan_of("idm", equation="ddpm", steps=2000, published=True)
    assert [row.timestep for row in plan.rows] == list(range(1999, -1, -1))
    assert all(row.clip for row in plan.rows)
    with pytest.raises(PlanError, match="makes all 2000 steps of the schedule, 20 were asked for"):
        plan_of("idm", equation="ddpm", published=True)


def test_multistep_equations_look_back_as_far_as_their_order() -> None:
    for name, order in (("dpmpp-2m", 2), ("dpmpp-3m", 3)):
        plan = plan_of(equation=name, steps=6)
        assert plan.history == order
        assert [len(row.x0) for row in plan.rows] == [min(order, i + 1, 6 - i) for i in range(6)]


def test_listed_noise_levels_are_the_rows_levels() -> None:
    levels = (0.2, 0.6, 0.9)
    plan = plan_of(placement=levels, steps=3)
    assert tuple(row.noise_level for row in plan.rows) == levels


@pytest.mark.parametrize("name", list(EQUATIONS))
@pytest.mark.parametrize("family", sorted(RULES))
def test_every_equation_makes_a_plan_of_any_length(name: str, family: str) -> None:
    schedule = IDM if family == "idm" else LATENT
    for steps in (1, 2, 3, 50):
        chosen = PlanSettings(equation=name, steps=steps)
        assert len(make_plan(schedule, chosen, rules=RULES[family], measured=MEASURED)) == steps


def test_an_equation_that_rests_on_measurements_is_refused_without_any() -> None:
    with pytest.raises(PlanError, match="not measured yet: run `idm-deploy schedule --equation analytic-dpm`"):
        plan_of(equation="analytic-dpm")
    at = MeasuredNoise(noise_levels=(0.2, 0.5), mean_squares=(1.0, 0.0)).at
    halfway = noise_level_from_log_snr((log_snr_from_noise_level(0.2) + log_snr_from_noise_level(0.5)) / 2)
    levels = (0.1, 0.2, halfway, 0.5, 0.9)  # beyond the ends it stays as it is there
    assert [at(point_from_noise_level(IDM, level)) for level in levels] == pytest.approx([1, 1, 0.5, 0, 0])


def test_pndm_evaluates_its_second_level_twice_and_never_looks_back_at_the_first_of_the_two() -> None:
    plan = plan_of(equation="pndm", steps=7)
    levels = [row.noise_level for row in plan.rows]
    assert levels[1] == levels[2] and len(set(levels)) == 6
    assert [len(row.eps) for row in plan.rows] == [0, 1, 2, 3, 4, 3, 3] and plan.earlier_noises == 4
    assert [plan.rows[index].eps[index - 2] for index in (2, 3, 4)] == [0.0, 0.0, 0.0]
    listed = plan_of(equation="pndm", steps=3, placement=(0.3, 0.6, 0.9))  # the levels are those that were listed
    assert [len(row.eps) for row in listed.rows] == [0, 1, 2]


@pytest.mark.parametrize(
    "settings",
    [
        PlanSettings(),
        PlanSettings(equation="ddim", steps=7, eta=0.5, start=0.3, clip=False),
        PlanSettings(equation="dpmpp-2m", steps=2, placement=(0.25, 0.5)),
    ],
)
def test_settings_survive_json(settings: PlanSettings) -> None:
    assert PlanSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


def test_an_unknown_setting_names_the_nearest() -> None:
    with pytest.raises(PlanError, match="unknown key 'step'; did you mean 'steps'"):
        PlanSettings.from_dict({"step": 5})


def test_all_wrong_settings_are_reported_at_once() -> None:
    with pytest.raises(
        PlanError, match=r"'dimm' is unknown, the nearest is 'ddim' .*; eta .* 2; .* integer, found 0$|."
    ):
        PlanSettings(equation="dimm", eta=2, steps=0)
    with pytest.raises(PlanError) as caught:
        PlanSettings(equation="dimm", eta=2, steps=0, start=1.5, placement="logsrn", clip="yes")  # type: ignore[arg-type]
    for problem in (
        "'dimm' is unknown, the nearest is 'ddim'",
        "eta must be from 0 to 1, found 2",
        "clip must be true, false or left out, found 'yes'",
        "steps must be a positive integer, found 0",
        "start must be a noise level between 0 (pure noise) and 1 (clean), found 1.5",
        "placement 'logsrn' is unknown, the nearest is 'logsnr'",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"equation": "dpmpp-2m", "eta": 0.5}, "'dpmpp-2m' has no eta, found 0.5"),
        ({"equation": "dpmpp-2m", "published": True}, "'dpmpp-2m' has no published form"),
        ({"published": True, "start": 0.5}, "takes neither a start nor a placement"),
        ({"published": True, "placement": "logsnr"}, "takes neither a start nor a placement"),
        ({"placement": (0.5,)}, "1 noise levels are listed for 20 steps"),
        ({"placement": (0.5, "x"), "steps": 2}, "listed noise levels must be numbers"),
        ({"placement": (0.5,), "steps": 1, "start": 0.5}, "begins at its first and takes no start"),
        ({"steps": 2001}, "2001 steps were asked for.*at most 2000"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan_of(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "needs at least one row"),
        ((replace(ROW, noise_level=0.0),), "leads from noise level 0 to 1, not upwards"),
        ((ROW, ROW), "Row 0 of the plan leads from noise level 0.5 to 0.5"),
        ((replace(ROW, x=float("nan")),), "Row 0 of the plan has a coefficient that is not a number"),
        ((replace(ROW, x0=(1.0, 1.0)),), "uses 2 estimates, but 1 exist by then"),
    ],
)
def test_an_impossible_plan_is_refused(rows: tuple[PlanRow, ...], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan(rows=rows, end_noise_level=1.0, rules=IDM_SAMPLING, settings=PlanSettings())


# The three ways in which DDIM is known to fail on networks of this kind (SR3's issue 72). Each test shows that the
# failure would be seen and that the plan does not have it.

COLOUR = 0.7  # a picture of one colour, which the ideal network recognises at every noise level


def no_noise(step_index: int) -> Array:
    raise AssertionError(f"noise was asked for at step {step_index}")


def sample(plan: Plan, network: PredictNoise) -> Array:
    """What the plan makes of 4000 states of pure noise."""
    x = np.random.default_rng(3).standard_normal(4000)
    return run_plan(plan, network, x, no_noise)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_noise_level_off_by_one_timestep_would_be_seen(shift: int) -> None:
    # Entry t + 1 of the recorded table is the level that the official code conditions on at timestep t.
    levels = tables("idm_schedule", "linear_2000_1e-6_1e-2")["sqrt_alphas_cumprod_prev_f64"]
    plan = plan_of(steps=20, clip=False)

    def network(x: Array, row: PlanRow, _index: int) -> Array:
        level = levels[min(row.timestep + 1 + shift, 2000)]
        noise: Array = (x - level * COLOUR) / np.sqrt(1 - level**2)
        return noise

    error = np.abs(sample(plan, network) - COLOUR).max()
    if shift:
        assert error > 1e-3
    else:
        assert error < 1e-12
        assert [row.noise_level for row in plan.rows] == [levels[row.timestep + 1] for row in plan.rows]


def test_stopping_before_the_last_update_would_be_seen() -> None:
    plan = plan_of(steps=20)
    assert plan.end_noise_level == 1.0
    # Whatever came before, the last step leaves the estimate and nothing of the noisy state.
    assert (plan.rows[-1].x, plan.rows[-1].x0, plan.rows[-1].noise) == (0.0, (1.0,), 0.0)

    def network(x: Array, row: PlanRow, _index: int) -> Array:
        return (x - row.noise_level * COLOUR) / row.sigma

    stopped = replace(plan, rows=plan.rows[:-1], end_noise_level=plan.rows[-1].noise_level)
    assert np.abs(sample(stopped, network) - COLOUR).max() > 0.1
    np.testing.assert_allclose(sample(plan, network), COLOUR, atol=1e-12)


def test_no_clipping_would_be_seen() -> None:
    # A network that underestimates the noise by 2 %: at sqrt(alpha_bar) = 0.0066 the estimate of a picture is off
    # by 0.02*sigma/alpha = 3 per unit of noise. The data hardly reach 1.5 (three deviations).
    def network(x: Array, row: PlanRow, index: int) -> Array:
        return 0.98 * ideal_noise(x, row, index)

    unclipped, clipped = sample(plan_of(clip=False), network), sample(plan_of(), network)
    assert np.abs(unclipped).max() > 1.7
    assert np.abs(clipped).max() <= 1
    assert abs(clipped.mean() - MEAN) < 0.1 and abs(clipped.std() - DEVIATION) < 0.15
