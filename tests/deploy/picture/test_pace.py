"""The time of one evaluation, judged by smaller ones: the arithmetic, on a network whose time is a known formula."""

import math

import pytest

from deploy.images.tiles import Size
from deploy.picture import pace
from deploy.picture.pace import LONGEST_PROBE, seconds_of_evaluation
from tests.deploy.picture.stub_model import StubModel


class Clock:
    """Stands for the engine's time: `linear` seconds a pixel and `square` a pixel squared; remembers the windows."""

    def __init__(self, linear: float, square: float = 0.0, fixed: float = 0.0) -> None:
        self.linear, self.square, self.fixed = linear, square, fixed
        self.probed: list[Size] = []

    def seconds(self, window: Size) -> float:
        pixels = math.prod(window)
        return self.fixed + self.linear * pixels + self.square * pixels**2

    def __call__(self, model: object, lr: Size, size: Size, window: Size) -> float:
        del model, lr, size
        self.probed.append(window)
        return self.seconds(window)


def estimated(clock: Clock, window: Size, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(pace, "_measured", clock)
    return seconds_of_evaluation(StubModel(), (8, 8), window, window)


@pytest.mark.parametrize("window", [(768, 768), (40, 5000), (512, 100)])
def test_work_per_pixel_and_attention_are_told_apart(window: Size, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen for the demo model on two cores: 5 us a pixel, and as much again at 512x512 for attention."""
    clock = Clock(5e-6, 2e-11)
    assert estimated(clock, window, monkeypatch) == pytest.approx(clock.seconds(window), rel=1e-9)


def test_probes_stay_a_small_part_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(5e-6, 2e-11)
    estimated(clock, (768, 768), monkeypatch)
    assert clock.probed == [(32, 32), (64, 64), (128, 128), (256, 256)]  # 256x256 takes longer than the longest probe
    assert clock.seconds((128, 128)) <= LONGEST_PROBE < clock.seconds((256, 256))
    assert 2 * sum(map(clock.seconds, clock.probed)) < clock.seconds((768, 768))


def test_a_window_no_larger_than_a_probe_is_measured_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for window, probed in (((20, 30), [(20, 30)]), ((64, 40), [(32, 32), (64, 40)])):
        clock = Clock(1e-6, 1e-9, fixed=0.01)
        assert estimated(clock, window, monkeypatch) == clock.seconds(window)
        assert clock.probed == probed


def test_where_small_windows_cost_more_per_pixel_the_largest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1e-6, fixed=0.09)
    expected = clock.seconds((128, 128)) * 4
    assert estimated(clock, (256, 256), monkeypatch) == pytest.approx(expected)
    assert clock.probed[-1] == (128, 128)
