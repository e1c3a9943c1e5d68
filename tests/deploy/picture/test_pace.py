"""The time of pictures, learnt from their steps: the arithmetic, on a machine whose times are a known formula."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from deploy.picture import pace as module
from deploy.picture.pace import (
    AGAIN,
    FIRST,
    STEP,
    WRITING_PER_PIXEL,
    Pace,
    Timing,
    Work,
    crowding,
    seconds_at,
    seconds_of_rows,
)


class Machine:
    """A clock, and the times of a network with work per pixel and attention that weighs as much at 512x512: what was
    seen for the demo model on two cores. `load`: how many times longer everything takes."""

    def __init__(self, load: float = 1.0) -> None:
        self.now = 0.0
        self.load = load

    def clock(self) -> float:
        return self.now

    def take(self, seconds: float) -> None:
        self.now += seconds * self.load

    def step(self, work: Work) -> float:
        return 5e-6 * work.window * (1 + work.window / 512**2)

    def make(self, work: Work, pace: Pace, again: bool = False) -> tuple[float | None, float]:
        """What was forecast, before the work or else by its first steps, and what it took."""
        began = self.now
        told = pace.seconds(work)
        timing = Timing(pace, work, clock=self.clock)
        self.take(0.6 * self.step(work) + (0.0 if again else 0.5 * self.step(work)))  # encoding, and waking up
        for _ in range(work.evaluations):
            self.take(self.step(work))
            timing.mark()
            if told is None and timing.is_telling:
                told = timing.elapsed + timing.left()
        self.take(3e-7 * work.output)
        timing.finish()
        return told, self.now - began


def whole(pixels: int, steps: int = 5) -> Work:
    """A picture of the family whose state is the picture, in one piece."""
    return Work(window=pixels, tile=None, tiles=1, steps=steps, state=pixels, output=pixels)


def test_a_curve_is_exact_where_it_was_measured_and_silent_far_from_there() -> None:
    curve = {100: 2.0, 400: 6.0, 10_000: 90.0}
    assert seconds_at(curve, 400) == 6.0
    assert seconds_at(curve, 200) == pytest.approx(math.sqrt(2.0 * 6.0))  # the geometric middle, between 100 and 400
    assert seconds_at(curve, 80) == pytest.approx(1.6) and seconds_at(curve, 15_000) == pytest.approx(135)
    assert [seconds_at(curve, pixels) for pixels in (60, 2000, 16_000)] == [None, None, None]
    assert seconds_at({}, 5) is None


@pytest.mark.parametrize("steps", [2, 5, 20])
@pytest.mark.parametrize("side", [48, 256, 768])
def test_forecasts_are_within_30_percent_the_first_time_and_later(side: int, steps: int) -> None:
    machine, pace = Machine(), Pace()
    work = whole(side**2, steps)
    told, took = machine.make(work, pace)
    # Of two steps the first is all there is to judge by, and it took 2.1 steps' time where the other takes one.
    assert told == pytest.approx(took, rel=0.36 if steps == 2 else 0.3)
    later = Pace(pace.learnt())
    for pixels in (side**2, round(1.4 * side**2), round(side**2 / 1.4)):
        told, took = Machine().make(whole(pixels, steps), later)
        assert told == pytest.approx(took, rel=0.3)


def test_a_size_between_two_that_were_timed_is_within_30_percent() -> None:
    """Also where attention, which grows with the square, goes from an eighth of the time to twice the rest."""
    pace = Pace()
    for side in (181, 512):
        Machine().make(whole(side**2), pace)
    told, took = Machine().make(whole(300**2), Pace(pace.learnt()))
    assert told == pytest.approx(took, rel=0.3)


def test_what_was_learnt_under_load_holds_when_it_is_quiet_and_the_other_way_round() -> None:
    quiet, busy = Pace(), Pace(crowding=lambda: 3.0)
    Machine().make(whole(9216), quiet)
    Machine(load=3.0).make(whole(9216), busy)
    assert busy.learnt() == pytest.approx(quiet.learnt())
    told, took = Machine(load=4.0).make(whole(9216), Pace(quiet.learnt(), lambda: 3.0))
    assert told is not None and 1 / 3 < told / took < 3


def test_one_wild_step_is_forgotten() -> None:
    """A step that takes 20 times as long changes nothing about what is left, wherever it comes."""
    work = whole(4096, steps=20)
    for wild in range(20):
        machine = Machine()
        timing = Timing(Pace(), work, clock=machine.clock)
        for index in range(20):
            machine.take(20.0 if index == wild else 1.0)
            timing.mark()
            if timing.is_telling:
                assert timing.left() == pytest.approx(19 - index + WRITING_PER_PIXEL * work.output)


def test_the_time_left_follows_a_machine_that_slows_down() -> None:
    machine = Machine()
    timing = Timing(Pace(), whole(4096, steps=40), clock=machine.clock)
    for index in range(40):
        machine.load = 1.0 if index < 20 else 4.0
        machine.take(1.0)
        timing.mark()
    assert timing.left() == pytest.approx(WRITING_PER_PIXEL * 4096)
    machine, pace = Machine(), Pace()
    timing = Timing(pace, whole(4096, steps=40), clock=machine.clock)
    for index in range(30):
        machine.load = 1.0 if index < 20 else 4.0
        machine.take(1.0)
        timing.mark()
    assert timing.left() == pytest.approx(40.0, abs=0.01)  # ten more at four seconds


def test_tiles_of_the_first_step_that_also_encode_do_not_count_for_the_others() -> None:
    work = Work(window=1024, tile=32, tiles=4, steps=3, state=3000, output=3000)
    machine, pace = Machine(), Pace()
    timing = Timing(pace, work, clock=machine.clock)
    for index in range(12):
        machine.take(1.5 if index < 4 else 1.0)
        timing.mark()
        if index == 6:
            assert timing.left() == pytest.approx(5.0, abs=0.01)
    timing.finish()
    assert pace.learnt() == {(STEP, 1024, 1024): 1.0, (FIRST, 3000, 3000): pytest.approx(2.0)}


def test_stages_have_a_time_each_and_what_is_to_come_is_known_by_its_pixels() -> None:
    """Two steps of 1 s, then two on nine times the pixels: 9 s each, and 3 s around all of them."""
    work = replace(whole(9216, steps=2), output=20_000, earlier=(whole(1024, steps=2),))
    machine, pace = Machine(), Pace()
    timing = Timing(pace, work, clock=machine.clock)
    for seconds, left in ((2.0, 38.0), (1.0, 18.0), (9.0, 9.0), (9.0, 0.0)):
        machine.take(seconds)
        timing.mark()
        assert timing.left() == pytest.approx(left, abs=0.01)
    machine.take(2.0)
    timing.finish()
    assert pace.learnt() == {(STEP, 1024, 1024): 1.0, (STEP, 9216, 9216): 9.0, (FIRST, 9216, 20_000): 3.0}
    assert pace.seconds(work, again=True) == pytest.approx(23.0) and pace.about(work) == pytest.approx(23.0)
    # The first stage alone was never a picture: what is around it is guessed, as one more step and writing.
    assert pace.seconds(whole(1024, steps=2)) == pytest.approx(3.0, abs=0.01)


def test_the_second_picture_of_a_size_is_expected_without_what_the_first_needed() -> None:
    machine, pace = Machine(), Pace()
    machine.make(whole(2304, steps=2), pace)
    machine.make(whole(2304, steps=2), pace, again=True)
    told, took = machine.make(whole(2304, steps=2), pace, again=True)
    assert told == pytest.approx(took)
    kinds = sorted(place[0] for place in pace.learnt())
    assert kinds == sorted([STEP, FIRST, AGAIN])


def test_a_measured_step_is_enough_where_the_state_is_the_picture() -> None:
    """What is around the steps is taken for one more and the writing; a latent's decoding cannot be guessed so."""
    pace = Pace({(STEP, 10_000, 10_000): 0.1, (STEP, 256, 256): 0.05})
    assert pace.seconds(whole(10_000)) == pytest.approx(0.6 + WRITING_PER_PIXEL * 10_000)
    latent = Work(window=256, tile=None, tiles=1, steps=5, state=256, output=16_384)
    assert pace.seconds(latent) is None
    assert pace.about(latent) == pytest.approx(0.3 + WRITING_PER_PIXEL * 16_384)


def test_a_latent_is_known_by_both_its_sizes() -> None:
    """One latent decoded to 36 times the pixels takes another time than what was seen at the smaller size."""
    pace = Pace({(STEP, 4096, 4096): 0.1, (FIRST, 4096, 16_384): 0.5})
    small, large = (Work(window=4096, tile=None, tiles=1, steps=20, state=4096, output=16_384 * k) for k in (1, 36))
    assert pace.seconds(small) == pytest.approx(2.5)
    assert pace.seconds(large) is None


def test_decoding_is_tried_once_and_in_no_step_s_time() -> None:
    machine = Machine()
    tries: list[float] = []

    def decoding() -> float:
        machine.take(7.0)
        tries.append(machine.now)
        return 3.0

    pace = Pace()
    work = Work(window=4096, tile=None, tiles=1, steps=4, state=4096, output=16_384)
    timing = Timing(pace, work, decoding, machine.clock)
    for index in range(4):
        machine.take(1.0)
        timing.mark()
        assert timing.left() == pytest.approx(3 - index + 3.0 + WRITING_PER_PIXEL * work.output)
    machine.take(2.5)
    timing.finish()
    assert tries == [8.0]  # with the first step done, when how the run is laid out in memory is decided
    assert pace.learnt() == {(STEP, 4096, 4096): 1.0, (FIRST, 4096, 16_384): pytest.approx(2.5)}


def test_nothing_is_known_before_anything_was_timed() -> None:
    pace = Pace()
    assert pace.seconds(whole(100)) is pace.about(whole(100)) is pace.around(whole(100)) is None
    assert Timing(pace, whole(100)).left() == 0.0


def test_decoding_is_judged_by_the_first_two_blocks_of_rows() -> None:
    """1 s for what is done once and 10 rows, then 0.25 s for ten more: the other 80 of 100 rows take 2 s."""
    taken: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for index in range(10):
            taken.append(index)
            yield np.zeros((1, 3, 10, 50), np.float32)

    assert seconds_of_rows(blocks(), 5000, iter([0.0, 1.0, 1.25]).__next__) == pytest.approx(3.25)
    assert len(taken) == 2
    assert seconds_of_rows(iter(()), 5000) == 0.0


@pytest.mark.parametrize(("others", "threads", "factor"), [(0, 2, 1.0), (4, 2, 3.0), (4, None, 3.0), (1, 1, 1.0)])
def test_crowding_is_the_share_of_the_cores_that_is_left(
    others: int, threads: int | None, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    looks = iter([others, others, 50, others, others])  # one burst is no load
    monkeypatch.setattr(module, "_others_running", lambda: next(looks))
    assert crowding(threads) == factor


def test_a_system_that_does_not_tell_its_load_is_taken_for_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_others_running", lambda: None)
    assert crowding(2) == 1.0
