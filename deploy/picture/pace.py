"""How long one evaluation of the network will take, judged by smaller ones."""

import time
from dataclasses import dataclass

import numpy as np

from deploy.families.contract import Model
from deploy.images.tiles import Size, Window

PROBE_SIDE = 32
"""Pixels of the smallest probe's side, where the network's stride allows it; the others double it."""

LONGEST_PROBE = 0.1
"""Seconds after which no larger probe is made: the estimate must not become a part of the work."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is expected of a picture before its work begins."""

    seconds: float
    tile: int | None  # side of the tiles; None: the whole picture at once
    tiles: int


def seconds_of_evaluation(model: Model, lr: Size, size: Size, window: Size) -> float:
    """About the seconds for one window of that size: work per pixel, and attention, which grows with its square.

    The two unknowns of t = a P + b P^2 (P the number of pixels) follow from windows of two sizes, as large as can be
    had in a small part of the time of the whole. A window that is no larger than a probe is measured as it is.
    """
    side = max(PROBE_SIDE, 2 * model.stride)
    probes: list[tuple[float, float]] = []  # pixels and seconds
    while True:
        probe = min(side, window[0]), min(side, window[1])
        seconds = _measured(model, lr, size, probe)
        if probe == window:
            return seconds
        probes.append((float(probe[0] * probe[1]), seconds))
        # The next probe has four times the pixels and is evaluated twice: below half of one evaluation of the whole.
        cheap = seconds <= LONGEST_PROBE and 16 * probes[-1][0] <= window[0] * window[1]
        if len(probes) > 1 and not cheap:
            return _extrapolated(probes[max(-3, -len(probes))], probes[-1], float(window[0] * window[1]))
        side *= 2


def _extrapolated(smaller: tuple[float, float], larger: tuple[float, float], wanted: float) -> float:
    """The seconds for `wanted` pixels, from the (pixels, seconds) of two smaller windows."""
    (few, at_few), (many, at_many) = smaller, larger
    square = (at_many / many - at_few / few) / (many - few)
    linear = at_many / many - square * many
    if square < 0 or linear < 0:  # small windows cost more per pixel, or all the time is attention's
        return at_many * wanted / many
    return linear * wanted + square * wanted**2


def _measured(model: Model, lr: Size, size: Size, window: Size) -> float:
    """The faster of two evaluations; the first of a shape also prepares the engine."""
    condition = model.blank_condition(lr, size, Window.whole(window))
    row = model.rows([0.5], [0])[0]
    x = np.zeros((1, model.channels, *window), np.float32)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        model.predict(x, condition, row)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
