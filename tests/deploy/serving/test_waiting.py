"""Whose turn it is, and how many are made together: arithmetic, without a service."""

from dataclasses import dataclass

from deploy.serving.batches import ENOUGH, TRIED_AFTER, TRIED_AGAIN, Batches
from deploy.serving.waiting import Waiting


@dataclass(frozen=True, eq=False)
class Asked:
    client: str
    cost: float


def test_clients_take_turns_by_what_they_ask_for() -> None:
    waiting: Waiting[Asked] = Waiting()
    many = [Asked("a", 2.0) for _ in range(3)]  # start at 0, 2, 4
    large = Asked("b", 10.0)  # 0
    small = [Asked("c", 1.0) for _ in range(3)]  # 0, 1, 2
    for job in (*many, large, *small):
        waiting.push(job)
    assert [waiting.place(job) for job in (many[0], many[1], large)] == [0, 4, 1]
    assert waiting.seconds() == 19.0
    order = [waiting.pop() for _ in range(5)]
    assert order == [many[0], large, small[0], small[1], many[1]]
    late = Asked("d", 1.0)  # starts now, at 2, and not before those who have waited since then
    waiting.push(late)
    again = Asked("b", 1.0)  # b has had 10
    waiting.push(again)
    assert waiting.remove(many[2]) and not waiting.remove(many[2])
    assert [waiting.pop() for _ in range(4)] == [small[2], late, again, None]


def test_a_place_for_short_ones_passes_a_long_one_over() -> None:
    waiting: Waiting[Asked] = Waiting()
    long, short = Asked("a", 60.0), Asked("a", 0.5)
    waiting.push(long)
    waiting.push(short)
    assert waiting.peek(lambda job: job.cost < 2) is short
    assert waiting.pop(lambda job: job.cost < 2) is short
    assert waiting.pop(lambda job: job.cost < 2) is None
    assert len(waiting) == 1 and waiting.pop() is long


def test_pictures_are_made_together_where_a_trial_says_so() -> None:
    batches = Batches(None)
    for kind in ("x", "y"):
        for _ in range(TRIED_AFTER):
            assert not batches.is_to_be_tried(kind, ENOUGH)
            batches.count(kind)
        assert not batches.is_to_be_tried(kind, ENOUGH - 1)
        assert batches.is_to_be_tried(kind, ENOUGH) and batches.size(kind) == 1
    batches.learn("x", 4)
    batches.learn("y", 1)
    assert [batches.size(kind) for kind in ("x", "y", "z")] == [4, 1, 1]
    assert [len(part) for part in batches.parts("x", range(7))] == [4, 2, 1], "no number that was not tried"
    for _ in range((TRIED_AGAIN - 1) * TRIED_AFTER):
        assert not any(batches.is_to_be_tried(kind, 8) for kind in ("x", "y"))
        for kind in ("x", "y"):
            batches.count(kind)
    assert [kind for kind in ("x", "y") if batches.is_to_be_tried(kind, 8)] == ["x", "y"]
    batches.learn("x", 8)
    assert not batches.is_to_be_tried("x", 1000)
    assert [len(part) for part in Batches(5).parts("z", range(7))] == [5, 2]
    assert Batches(8).size("z") == Batches(8).most == 8 and not Batches(8).is_to_be_tried("x", 9)
