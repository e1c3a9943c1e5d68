"""The simulation of many machines against arithmetic, and the done-list that it counts with."""

import heapq
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale import Fleet, ask_done_list, driver_costs, main, simulated, write_done_list

SAME = Fleet(shared=1.0, spread=0.0, slow_share=0.0, loss_hours=1e9, retried_share=0.0)
"""Machines that are all alike, and lose nothing."""


def made_by(fleet: Fleet, machines: int, pictures: int) -> tuple[float, float, float, int]:
    part = simulated(fleet, 2.0, machines, pictures, np.random.default_rng(3))
    return part.computed_s, part.divided_s - part.listed_s, part.idle_share, part.repeated


def end_of_single_pictures(paces: list[float], pictures: int) -> float:
    """Each worker is given its next picture when it is free."""
    free = [(0.0, worker) for worker in range(len(paces))]
    end = 0.0
    for _ in range(pictures):
        now, worker = heapq.heappop(free)
        end = max(end, now + paces[worker])
        heapq.heappush(free, (now + paces[worker], worker))
    return end


def test_equal_machines_share_the_pictures_and_a_slow_one_takes_fewer() -> None:
    assert made_by(SAME, 10, 80_000) == (2000.0, 2000.0, 0.0, 0)  # 80 workers, 1000 pictures of 2 s each
    slow = replace(SAME, slow_share=0.1)
    end, divided, idle, _ = made_by(slow, 10, 80_000)
    number = round(np.sum(np.random.default_rng(3).random(10) < 0.1))
    assert number and divided == 6000.0
    paces = [6.0] * (8 * number) + [2.0] * (8 * (10 - number))
    assert end == pytest.approx(end_of_single_pictures(paces, 80_000), abs=6.0)  # one picture of a slow worker
    assert idle < 0.01


def test_what_lost_machines_were_at_is_made_again_and_costs_their_absence() -> None:
    ideal, *_ = made_by(SAME, 10, 80_000)
    losing = replace(SAME, loss_hours=0.25, replaced_s=60.0)
    end, _, _, repeated = made_by(losing, 10, 80_000)
    losses = repeated / losing.in_flight
    assert 100 < losses < 260  # 80 workers for 2000 s and the time they are away, one loss in 900 s
    assert end == pytest.approx(ideal + losses * 60 / 80, rel=0.05)
    retried = replace(SAME, retried_share=0.1)
    end, _, _, repeated = made_by(retried, 10, 80_000)
    assert repeated == pytest.approx(8000, rel=0.1) and end == pytest.approx(1.1 * ideal, rel=0.02)


def test_the_driver_sets_the_pace_where_it_is_slower(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pictures", "200000", "--machines", "100", "--seconds", "0.1", "--handed-s", "0.01"]) == 0
    one, ten, hundred = [line for line in capsys.readouterr().out.splitlines() if line[:3] in ("| 1", "| 10")]
    assert "the driver" in one and "| 0.6 |" in one  # 200 000 times 10 ms are 33 minutes
    assert "200,000" in one and "20,000" in ten and "2,000" in hundred


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("machines", "0", "at least 100 machines"),
        ("seconds", "0", "--seconds must be above 0"),
        ("slow-share", "-1", "--slow-share must"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    option: str, value: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--{option}", value])
    assert told in capsys.readouterr().err


def test_done_list_and_driver_are_measured(tmp_path: Path) -> None:
    write_done_list(tmp_path, 3000, 3)
    assert "3,000 rows opened" in ask_done_list(tmp_path, 3000)
    _, seconds = driver_costs(1000)
    assert 0 < seconds < 1e-3
