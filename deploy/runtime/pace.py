"""How long one evaluation of the network will take, judged by two small ones."""

import time

import numpy as np

from deploy.runtime.model import Model
from deploy.runtime.tiles import Size, Window

PROBE_SIDE = 32
"""Pixels of the smaller probe's side, where the network's stride allows it; the larger has twice that."""


def seconds_of_evaluation(model: Model, lr: Size, size: Size, window: Size) -> float:
    """About the seconds for one window of that size: work per pixel, and attention, which grows with its square.

    The two unknowns of t = a P + b P^2 (P the number of pixels) follow from windows of two sizes. A window that is
    no larger than the larger probe is measured as it is.
    """
    side = max(PROBE_SIDE, 2 * model.stride)
    smaller, larger = (min(side, window[0]), min(side, window[1])), (min(2 * side, window[0]), min(2 * side, window[1]))
    at_larger = _measured(model, lr, size, larger)
    if larger == window:
        return at_larger
    at_smaller = _measured(model, lr, size, smaller)
    few, many, wanted = (float(height * width) for height, width in (smaller, larger, window))
    square = (at_larger / many - at_smaller / few) / (many - few)
    linear = at_larger / many - square * many
    if square < 0 or linear < 0:  # small windows cost more per pixel, or all the time is attention's
        return at_larger * wanted / many
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
