"""Work in lanes gives what work one after the other gives."""

from collections.abc import Iterator
from threading import Barrier, Event
from time import sleep

import pytest

from calibration.lanes import Lanes, StoppedError, go_on, lanes_for


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    assert list(Lanes(count=count, threads=1).each(lambda x: x * x, iter(range(7)))) == [0, 1, 4, 9, 16, 25, 36]


def test_two_lanes_work_at_the_same_time() -> None:
    """Neither passes the barrier alone."""
    meeting = Barrier(2, timeout=20)
    assert sorted(Lanes(count=2, threads=1).each(lambda _: meeting.wait(), range(2))) == [0, 1]


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_ends_the_work(count: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item - 1)

    made = Lanes(count=count, threads=1).each(work, range(100))
    with pytest.raises(ZeroDivisionError):
        list(made)
    assert len(begun) <= 2 + count


def last_until(stop: Event) -> None:
    while True:
        go_on(stop)
        sleep(0.001)


def test_work_that_lasts_gives_up_when_another_lane_fails() -> None:
    stop, meeting, ended = Event(), Barrier(2, timeout=20), []

    def work(item: int) -> None:
        meeting.wait()
        if item == 0:
            raise KeyboardInterrupt  # as Ctrl-C would, in the thread that waits for results
        with pytest.raises(StoppedError):
            last_until(stop)
        ended.append(item)

    with pytest.raises(KeyboardInterrupt):
        list(Lanes(count=2, threads=1).each(work, range(2), stop))
    assert ended == [1]
    go_on(Event())


@pytest.mark.parametrize(("threads", "lanes"), [(1, (1, 1)), (2, (2, 1)), (5, (2, 2)), (16, (2, 8))])
def test_threads_are_divided_among_lanes(threads: int, lanes: tuple[int, int]) -> None:
    made = lanes_for(threads)
    assert (made.count, made.threads) == lanes
    assert lanes_for(None).count >= 1


@pytest.mark.parametrize("count", [1, 2])
def test_the_next_item_is_made_while_the_last_is_used_and_none_beyond_it(count: int) -> None:
    made = [Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    seen = []
    for number in Lanes(count=count, threads=1).ahead(items()):
        ahead = number + count
        assert all(event.wait(10) for event in made[number:ahead])
        assert not any(event.is_set() for event in made[ahead:])
        seen.append(number)
    assert seen == [0, 1, 2, 3]


def test_an_error_in_making_an_item_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("the second")

    taken = Lanes(count=2, threads=1).ahead(items())
    assert next(taken) == 0
    with pytest.raises(ValueError, match="the second"):
        next(taken)
