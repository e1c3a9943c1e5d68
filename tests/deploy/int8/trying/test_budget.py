"""How many layers stay in float, on made-up fidelities that follow from the number of layers."""

import numpy as np
import pytest

from calibration.passes.inputs import DenoiserInput
from deploy.errors import QuantizationError
from deploy.int8.trying.budget import Budget, Choice, Trial, fewest_in_float, head_of, rank_layers
from deploy.int8.trying.comparison import Fidelity

NODES = [f"layer{number:02d}" for number in range(20)]
RANKING = {node: float(len(NODES) - number) for number, node in enumerate(NODES)}


def pictures(in_float: frozenset[str]) -> Trial:
    """40 dB, and one more for each layer in float, if they are taken in the order of the ranking; 5 dB less plain."""
    assert in_float == frozenset(NODES[: len(in_float)])
    reached = 40.0 + len(in_float)
    found, plain = (Fidelity(decibels=(level, level + 1.0)) for level in (reached, reached - 5))
    return Trial(in_float=in_float, found=found, plain=plain)


def chosen(wanted: float, first: int | None) -> Choice:
    head = None if first is None else lambda ranking: list(ranking)[:first]
    budget = Budget(max_psnr_drop=0.05, min_fidelity=wanted)
    return fewest_in_float(budget, NODES, pictures, lambda: RANKING, head=head, what="quantizing for ort")


@pytest.mark.parametrize(("wanted", "layers"), [(35.0, 0), (36.0, 1), (38.2, 4), (39.5, 5), (42.5, 8), (45.0, 10)])
def test_the_fewest_layers_with_which_the_worst_plain_picture_meets_the_budget(wanted: float, layers: int) -> None:
    choice = chosen(wanted, None)
    assert choice.in_float == frozenset(NODES[:layers])
    assert choice.trials[0].found.mean == 40.5 and choice.trials[0].worst == 35.0


@pytest.mark.parametrize(
    ("wanted", "first", "layers"), [(0.0, 3, 3), (38.0, 3, 3), (39.0, 3, 4), (44.6, 3, 10), (35.5, 0, 1), (0.0, 12, 12)]
)
def test_what_pays_stays_in_float_anyway_and_the_budget_adds_to_it(wanted: float, first: int, layers: int) -> None:
    assert chosen(wanted, first).in_float == frozenset(NODES[:layers])


def test_nothing_is_ranked_when_nothing_has_to_stay() -> None:
    def rank() -> dict[str, float]:
        raise AssertionError("ranking takes long")

    budget = Budget(max_psnr_drop=0.0, min_fidelity=35.0)
    choice = fewest_in_float(budget, NODES, pictures, rank, head=None, what="quantizing")
    assert choice.sensitivity == {} and len(choice.trials) == 1


def test_an_impossible_budget_is_refused_with_figures() -> None:
    words = r"With 0 layers in float: 40\.50 dB.*35\.00 dB the worst.*with 10 of 20 in float: 50\.50"
    remedy = r"best seen 50\.50 dB\. Lower --min-fidelity, or leave this target out with --targets\.$"
    with pytest.raises(QuantizationError, match=f"^quantizing for ort: the budget cannot be met.*{words}.*{remedy}"):
        chosen(80.0, None)


def test_what_was_missed_is_what_is_to_be_allowed() -> None:
    found = Fidelity(decibels=(40.0,), psnr_float=(30.0,), psnr_int8=(29.9,))
    trial = Trial(in_float=frozenset(), found=found)
    assert Budget(max_psnr_drop=0.05, min_fidelity=45.0).remedies(trial) == [
        "raise --max-psnr-drop",
        "lower --min-fidelity",
    ]
    assert Budget(max_psnr_drop=0.05, min_fidelity=35.0).remedies(trial) == ["raise --max-psnr-drop"]
    assert Budget(max_psnr_drop=0.2, min_fidelity=None).remedies(trial) == []


def test_a_gain_is_not_told_as_a_negative_loss() -> None:
    found = Fidelity(decibels=(40.0,), psnr_float=(30.0,), psnr_int8=(30.004,))
    told = Budget(max_psnr_drop=0.05, min_fidelity=None).describe(Trial(in_float=frozenset(), found=found))
    assert told == "40.00 dB against float, 0.000 dB lost against the originals (at most 0.05 wanted)"


def test_a_loss_against_the_originals_counts() -> None:
    found = Fidelity(decibels=(60.0,), psnr_float=(30.0,), psnr_int8=(29.9,))
    assert found.psnr_drop == pytest.approx(0.1)
    trial = Trial(in_float=frozenset(), found=found)
    assert trial.worst == 60.0
    assert not Budget(max_psnr_drop=0.05, min_fidelity=None).allows(trial)
    assert Budget(max_psnr_drop=0.11, min_fidelity=None).allows(trial)


def test_layers_are_ranked_by_their_part_of_the_error_for_what_they_compute() -> None:
    """Errors 3, 1, 0 in the first step and 0.1, 0.1, 0.2 in the second are parts 0.9, 0.1, 0 and 1/6, 1/6, 4/6."""
    inputs = [DenoiserInput(level_index=k, feeds={}, predicted=np.zeros((1, 3, 2, 2), np.float32)) for k in range(2)]
    off = {"large": (3.0, 0.1), "small": (1.0, 0.1), "late": (0.0, 0.2)}
    ranking = rank_layers(
        list(off),
        [[one.predicted + np.float32(by) for one, by in zip(inputs, errors, strict=True)] for errors in off.values()],
        inputs,
        {"large": 100.0, "small": 10.0, "late": 50.0},
        lambda _doing, _fraction: None,
    )
    assert list(ranking) == ["small", "late", "large"]
    assert list(ranking.values()) == pytest.approx([0.8 / 6, 2 / 6, 3.2 / 6], rel=1e-6)


def test_a_share_of_the_arithmetic_goes_to_the_layers_that_are_worth_it() -> None:
    ranking = {"first": 0.6, "second": 0.3, "third": 0.1}
    multiplications = {"first": 2.0, "second": 4.0, "third": 30.0, "rest": 64.0}
    shares = {0.0: [], 0.05: ["first"], 0.061: ["first", "second"], 0.5: ["first", "second"]}
    assert {share: head_of(ranking, multiplications, share) for share in shares} == shares
