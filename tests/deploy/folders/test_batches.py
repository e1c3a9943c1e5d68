"""When pictures are made together, and what is told of how far a run is, by hand."""

from pathlib import Path

import numpy as np
import pytest

from deploy.folders.batches import TRIED_AFTER, TRIED_WITH_LEFT, Batches, Kind
from deploy.folders.outcome import Outcome
from deploy.folders.tally import Tally, shown
from deploy.images.sizes import Size

KIND = Kind(Size(16, 24), Size(64, 96), 8, True, True)
ONE, OTHER = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("together", "seconds", "chosen"),
    [([ONE, OTHER], 1.8, 2), ([ONE, OTHER], 1.95, 1), ([ONE, OTHER], 3.0, 1), ([ONE, ONE], 1.0, 1)],
)
def test_together_is_chosen_if_it_is_faster_and_the_same(
    together: list[np.ndarray], seconds: float, chosen: int
) -> None:
    batches = Batches(None)
    assert batches.size(KIND) == 1
    batches.count(KIND, TRIED_AFTER - 1)
    assert not batches.is_to_be_tried(KIND, TRIED_WITH_LEFT)
    batches.count(KIND, 1)
    assert batches.is_to_be_tried(KIND, TRIED_WITH_LEFT) and not batches.is_to_be_tried(KIND, TRIED_WITH_LEFT - 1)
    batches.learn(KIND, [ONE, OTHER], together, alone_seconds=2.0, together_seconds=seconds)
    assert batches.size(KIND) == chosen and not batches.is_to_be_tried(KIND, TRIED_WITH_LEFT)


def test_a_number_that_was_asked_for_is_taken_where_pictures_can_be_made_together() -> None:
    batches = Batches(5)
    assert (batches.size(KIND), batches.most) == (5, 5)
    assert batches.size(KIND._replace(size=Size(4096, 4096))) == 1  # one alone keeps an engine busy
    assert batches.size(KIND._replace(keeps_bits=False)) == 1


def test_the_tally_counts_rate_and_part_of_the_time() -> None:
    tally = Tally(total=10, began=100.0)
    assert tally.fraction(101.0) == 0.0
    for number in range(4):  # two seconds each
        made = Outcome(state="made", input=Path("a"), output=Path("b"), size=(2, 2))
        tally.count(made, 102.0 + 2 * number)
    tally.count(Outcome(state="skipped", input=Path("a"), output=Path("b")), 108.0)
    tally.count(Outcome(state="failed", input=Path("a\n"), output=Path("b"), error="bad"), 108.0)
    assert (tally.made, tally.skipped, tally.failed, tally.left) == (4, 1, 1, 4)
    assert tally.rate() == 0.5 and tally.seconds_left() == 8.0 and tally.fraction(108.0) == 0.5
    assert tally.text(Path("folder/c.png")) == "5 done, 1 failed, 4 left, 2 s each, c.png"
    told: list[str] = []
    tally.tell_failures(told.append)
    assert told == ["1 of 10 pictures failed: a\\n"]


def test_names_are_shown_in_one_line() -> None:
    assert shown(Path("a b.png")) == "a b.png"
    assert shown(Path("ü\n\x1b[2J\udcff")) == r"ü\n\x1b[2J\udcff"
