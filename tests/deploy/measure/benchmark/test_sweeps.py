"""How cost grows: one row per case, with what a reader needs to judge it."""

import pytest

from deploy.bundle import Bundle
from deploy.engine.graphs import EngineChoice
from deploy.engine.turns import Timing
from deploy.measure.benchmark.pictures import SweepRow, sweep
from deploy.measure.benchmark.settings import BenchSettings
from deploy.sampling.choices import Choices
from tests.deploy.measure.benchmark.clock import silent

PLAIN = Choices(equation="ddim", placement="uniform", start=0.0, consistency=0.0, steps=1)


def test_throughput_and_cost_per_pixel() -> None:
    timing = Timing(name="4 at 10x5", times_ms=(500.0, 100.0, 200.0))
    row = SweepRow(timing=timing, count=4, size=(5, 10), tiles=1, at_once=4)
    assert row.pictures_per_second == pytest.approx(20.0)
    assert row.us_per_pixel == pytest.approx(200e3 / (4 * 50))


def test_each_case_is_a_row(idm_micro: Bundle) -> None:
    settings = BenchSettings(size=(16, 16), threads=1, rounds=5)
    cases = [(1, (16, 16)), (3, (16, 16)), (1, (8, 24))]
    rows = sweep(idm_micro, settings, (EngineChoice(threads=1), PLAIN), cases, silent)
    assert [(row.count, row.size, row.at_once, row.tiles) for row in rows] == [
        (1, (16, 16), 1, 1),
        (3, (16, 16), 3, 1),
        (1, (8, 24), 1, 1),
    ]
    assert [row.timing.name for row in rows] == ["1 at 16x16", "3 at 16x16", "1 at 24x8"]
    assert all(len(row.timing.times_ms) == 3 and min(row.timing.times_ms) > 0 for row in rows)  # at most three rounds


def test_more_pictures_than_ever_run_together_say_how_many_did(idm_micro: Bundle) -> None:
    settings = BenchSettings(size=(16, 16), threads=1, rounds=1)
    (row,) = sweep(idm_micro, settings, (EngineChoice(threads=1), PLAIN), [(9, (16, 16))], silent)
    assert row.count == 9
    assert row.at_once == 8
