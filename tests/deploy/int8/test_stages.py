import pytest

from deploy.int8.stages import RANKING, SHARES, Stages, TrialPace


def test_the_stages_follow_one_another_from_nothing_to_all() -> None:
    told: list[tuple[str, float]] = []
    stages = Stages(lambda doing, fraction: told.append((doing, fraction)))
    for name in SHARES:
        for fraction in (0.0, 1.0):
            stages(name)(name, fraction)
    fractions = [fraction for _, fraction in told]
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0)
    # Each begins where the one before it ended.
    assert fractions[1:-1:2] == pytest.approx(fractions[2::2])
    assert fractions[1] == pytest.approx(SHARES["trajectories"])
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_a_stage_that_runs_twice_does_not_fall_back() -> None:
    told: list[float] = []
    stages = Stages(lambda _doing, fraction: told.append(fraction))
    for _ in range(2):
        for fraction in (0.5, 1.0):
            stages("scales")("scales", fraction)
    assert told == sorted(told)
    assert told[1:] == [told[1]] * 3


def test_a_ranking_belongs_to_the_first_target_and_every_trial_counts() -> None:
    """Six units: 3 + 1 of the first target's 4.5, and trials of the second's 1.5."""
    pace = TrialPace(2, ranks=True)
    pace.begin(0)
    ranking, first = pace.next_part(RANKING), pace.next_part()
    assert [ranking(0), ranking(0.5), first(0)] == pytest.approx([0.0, 1.5 / 6, 3 / 6])
    pace.begin(1)
    assert [pace.next_part()(0), pace.next_part()(0)] == pytest.approx([4.5 / 6, 5.5 / 6])


@pytest.mark.parametrize("ranks", [True, False])
def test_more_trials_than_expected_never_reach_the_next_target(ranks: bool) -> None:
    """Nor does a ranking that was not expected: each takes half of what is left."""
    pace = TrialPace(2, ranks=ranks)
    told = []
    for target in range(2):
        pace.begin(target)
        for weight in (1.0, RANKING, *[1.0] * 6):
            part = pace.next_part(weight)
            told += [part(0), part(1)]
    assert told == sorted(told) and told[0] == 0.0 and told[-1] < 1.0
    assert all(told[at] < told[at + 1] for at in range(0, len(told), 2))
