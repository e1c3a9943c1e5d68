"""What passes from thread to thread: bounded, in order, and never waiting for somebody who is gone."""

from threading import Thread

import pytest

from deploy.folders.channel import Channel, Closed


def test_things_come_in_order_and_no_more_wait_than_there_is_room_for() -> None:
    channel: Channel[int] = Channel(most=100, weight=10)
    most_waiting = 0

    def give() -> None:
        for number in range(50):
            channel.give(number, weight=4)
        channel.end()

    giving = Thread(target=give)
    giving.start()
    taken = []
    for number in channel:
        taken.append(number)
        most_waiting = max(most_waiting, len(channel._held))
    giving.join()
    assert taken == list(range(50)) and most_waiting <= 2
    with pytest.raises(Closed):
        channel.take()


def test_one_thing_passes_however_heavy_it_is() -> None:
    channel: Channel[str] = Channel(most=1, weight=1)
    assert channel.give("heavy", weight=1000)
    assert channel.take() == "heavy" and channel.take(timeout=0.001) is None


def test_a_giver_that_waits_is_told_that_nobody_takes() -> None:
    channel: Channel[int] = Channel(most=1, weight=1)
    channel.give(1)
    answers = []
    giving = Thread(target=lambda: answers.append(channel.give(2)))
    giving.start()
    channel.drop()
    giving.join(10)
    assert answers == [False] and not channel.give(3)


def test_an_error_of_the_giver_comes_after_what_was_given() -> None:
    channel: Channel[int] = Channel(most=4, weight=4)
    channel.give(1)
    channel.fail(ValueError("the giver's"))
    assert channel.take() == 1
    with pytest.raises(ValueError, match="the giver's"):
        channel.take()
