"""The arithmetic of turns, medians and ratios on a fake clock."""

from itertools import count

import pytest

from deploy.engine.turns import Contender, Split, Timing, measure, ratios, timing_of
from deploy.errors import OutputError
from engines.errors import EngineError
from engines.progress import part_of
from tests.deploy.measure.benchmark.clock import FakeClock, silent


def test_the_first_turn_warms_up_and_the_median_is_quoted() -> None:
    clock = FakeClock()
    slow = Contender("slow", clock.worker(iter([9.0, 0.4, 0.1, 0.2])))
    fast = Contender("fast", clock.worker(iter([9.0, 0.05, 0.05, 0.05])))
    measure([slow, fast], 3, clock, silent)
    assert slow.times_ms == pytest.approx([400, 100, 200])
    assert ratios([timing_of(slow), timing_of(fast)]) == pytest.approx({"slow": 1.0, "fast": 4.0})


def test_contenders_take_turns() -> None:
    order: list[str] = []
    contenders = [Contender(name, lambda name=name: order.append(name)) for name in "ab"]  # type: ignore[misc]
    measure(contenders, 2, FakeClock(), silent)
    assert order == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("error", "told"),
    [(EngineError("fell over"), "fell over"), (OutputError("no numbers"), "no numbers"), (MemoryError(), "memory ran")],
)
def test_one_that_fails_is_out_with_its_reason_and_the_others_go_on(error: Exception, told: str) -> None:
    calls = count()

    def broken() -> None:
        if next(calls) == 2:
            raise error

    clock = FakeClock()
    contenders = [Contender("broken", broken), Contender("sound", clock.worker(iter([1.0] * 4)))]
    measure(contenders, 3, clock, silent)
    failed = timing_of(contenders[0])
    assert told in str(failed.failure)
    assert not failed.times_ms  # the one good round is no median
    assert next(calls) == 3
    assert len(timing_of(contenders[1]).times_ms) == 3


def test_a_bug_is_not_a_row() -> None:
    def wrong() -> None:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        measure([Contender("wrong", wrong)], 1, FakeClock(), silent)


def test_a_contender_that_times_itself_counts_its_parts() -> None:
    splits = iter([Split({"a": 9.0, "b": 9.0}), Split({"a": 1.0, "b": 0.5}), Split({"a": 3.0, "b": 0.1})])
    contender = Contender("one", lambda: next(splits))
    measure([contender], 2, FakeClock(), silent)
    timing = timing_of(contender)
    assert timing.times_ms == pytest.approx((1500.0, 3100.0))
    assert timing.part_medians_ms == pytest.approx({"a": 2000.0, "b": 300.0})


def test_a_timing_without_parts_has_none() -> None:
    assert Timing(name="x", times_ms=(1.0,)).part_medians_ms == {}


def test_parts_of_the_work_fill_the_whole() -> None:
    seen: list[tuple[str, float]] = []
    progress = part_of(lambda doing, fraction: seen.append((doing, fraction)), 1, 4, "step")
    progress("engine", 0.5)
    assert seen == [("step, engine", 0.375)]
