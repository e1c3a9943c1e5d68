"""A run of pictures and its time left, on a clock whose steps are known."""

import pytest

from deploy.picture.outlook import Outlook
from deploy.picture.pace import Pace, Work
from tests.deploy.picture.test_pace import Machine, whole


def make(machine: Machine, outlook: Outlook, work: Work, warm_up: float = 0.0) -> list[float]:
    """One picture of the run; the fraction after each of its steps."""
    timing = outlook.begin(work)
    machine.take(warm_up)
    fractions = []
    for _ in range(work.evaluations):
        machine.take(machine.step(work))
        timing.mark()
        fractions.append(outlook.fraction())
    machine.take(1e-3)
    outlook.finish()
    return fractions


def test_two_of_300_pictures_tell_how_long_all_take_and_the_next_run_knows_before() -> None:
    machine, pace = Machine(), Pace()
    works = [whole(48**2, steps=2)] * 300
    outlook = Outlook(pace, works, 0.0, machine.clock)
    assert outlook.known() is None
    expected: list[float] = []
    fractions = []
    for index, work in enumerate(works):
        if outlook.is_telling and not expected:
            expected.append(outlook.expected())
            assert index == 2
        fractions += make(machine, outlook, work, warm_up=0.0 if index else 0.5)
    assert expected[0] == pytest.approx(machine.now, rel=0.02)
    assert fractions == sorted(fractions) and fractions[-1] > 0.999
    again = Outlook(Pace(pace.learnt()), works, 0.0, Machine().clock)
    assert again.known() == pytest.approx(machine.now, rel=0.001)  # one picture with the warm-up, 299 without


def test_the_fraction_is_one_of_time_where_pictures_differ_in_size() -> None:
    """One picture of 256x256 and three of 64x64: at the end of the large one, first, most of the time is over."""
    machine = Machine()
    works = [whole(256**2), *[whole(64**2)] * 3]
    outlook = Outlook(Pace(), works, 0.0, machine.clock)
    after_each = [make(machine, outlook, work)[-1] for work in works]
    shares = [sum(map(machine.step, works[: index + 1])) / sum(map(machine.step, works)) for index in range(4)]
    assert after_each == pytest.approx(shares, abs=0.08)  # small pictures are taken for a share of the large one
    assert after_each[-1] > 0.99


def test_a_long_first_picture_tells_of_all_by_its_first_steps() -> None:
    machine = Machine()
    works = [whole(768**2, steps=20)] * 10
    outlook = Outlook(Pace(), works, 0.0, machine.clock)
    timing = outlook.begin(works[0])
    for index in range(2):
        machine.take(machine.step(works[0]))
        timing.mark()
        assert outlook.is_telling == (index == 1)
    assert outlook.expected() == pytest.approx(200 * machine.step(works[0]), rel=0.02)


def test_a_picture_that_was_not_ahead_is_timed_all_the_same() -> None:
    machine = Machine()
    outlook = Outlook(Pace(), [], 0.0, machine.clock)
    assert not outlook.is_telling and outlook.known() == 0.0 and outlook.fraction() == 0.0
    fractions = make(machine, outlook, whole(64**2))
    assert fractions == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], rel=0.05)
