"""How many layers stay in float, on made-up fidelities that follow from the number of layers."""

import pytest

from deploy.errors import QuantizationError
from deploy.quantization.budget import Budget, fewest_in_float, rank_layers
from deploy.quantization.comparison import Fidelity
from deploy.quantization.trajectories import DenoiserInput

NODES = [f"layer{number:02d}" for number in range(20)]
RANKING = {node: float(len(NODES) - number) for number, node in enumerate(NODES)}


def pictures(in_float: frozenset[str]) -> Fidelity:
    """40 dB, and one more for each layer in float, if they are taken in the order of the ranking."""
    assert in_float == frozenset(NODES[: len(in_float)])
    return Fidelity(decibels=(40.0 + len(in_float), 41.0 + len(in_float)))


@pytest.mark.parametrize(("wanted", "layers"), [(40.5, 0), (41.0, 1), (43.2, 3), (45.5, 5), (48.5, 8), (50.5, 10)])
def test_the_fewest_layers_that_meet_the_budget_stay_in_float(wanted: float, layers: int) -> None:
    budget = Budget(max_psnr_drop=0.05, min_fidelity=wanted)
    choice = fewest_in_float(budget, NODES, pictures, lambda: RANKING, what="quantizing")
    assert choice.in_float == frozenset(NODES[:layers])
    assert choice.trials[0].found.mean == 40.5


def test_nothing_is_ranked_when_nothing_has_to_stay() -> None:
    def rank() -> dict[str, float]:
        raise AssertionError("ranking takes long")

    choice = fewest_in_float(Budget(max_psnr_drop=0.0, min_fidelity=40.0), NODES, pictures, rank, what="quantizing")
    assert choice.sensitivity == {} and len(choice.trials) == 1


def test_an_impossible_budget_is_refused_with_figures() -> None:
    budget = Budget(max_psnr_drop=0.05, min_fidelity=80.0)
    with pytest.raises(QuantizationError, match=r"With all layers in int8: 40\.50 dB.*with 10 of 20 in float: 50\.50"):
        fewest_in_float(budget, NODES, pictures, lambda: RANKING, what="quantizing for ort")


def test_a_loss_against_the_originals_counts() -> None:
    found = Fidelity(decibels=(60.0,), psnr_float=(30.0,), psnr_int8=(29.9,))
    assert found.psnr_drop == pytest.approx(0.1)
    assert not Budget(max_psnr_drop=0.05, min_fidelity=None).allows(found)
    assert Budget(max_psnr_drop=0.11, min_fidelity=None).allows(found)


def test_layers_are_ranked_by_their_weighted_error_in_one_step() -> None:
    """Errors 0.1 and 0.2 everywhere; the step's weight is x0 * sigma / level = 0.5 * 0.6 / 0.8 = 0.375."""
    import numpy as np

    from deploy.sampling.plan import Plan, PlanRow, PlanSettings

    row = PlanRow(noise_level=0.8, sigma=0.6, timestep=3, x=0.5, x0=(0.5,), noise=0.0, clip=True)
    plan = Plan(rows=(row,), end_noise_level=1.0, family="idm", settings=PlanSettings(steps=1))
    one = DenoiserInput(level_index=0, feeds={}, predicted=np.zeros((1, 3, 2, 2), np.float32))
    off = {"small": 0.1, "large": 0.2}
    ranking = rank_layers(
        ["small", "large"],
        lambda node, inputs: [one.predicted + np.float32(off[node]) for one in inputs],
        [one],
        plan,
        [0.8],
        lambda _doing, _fraction: None,
    )
    assert list(ranking) == ["large", "small"]
    assert ranking["large"] == pytest.approx((0.375 * 0.2) ** 2, rel=1e-6)
