"""What is left after rounding and can be taken back: means of layers per range, and the predicted noise per step."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.choose.correction import InputMean, NoiseErrors, bias_correction
from calibration.lanes import Lanes
from calibration.observe.layers import as_map, read_graph
from calibration.observe.observer import Observer
from calibration.passes.equalising import divided_weights, equalised
from calibration.passes.gathering import Findings
from calibration.passes.inputs import DenoiserInput, Inputs
from calibration.passes.recipes import Corrections, Scales
from deploy.bundle import Bundle
from deploy.bundle.quantization import LevelCorrection
from deploy.int8.installed import backend_of_target
from deploy.int8.trying.comparison import int8_upscaler, lanes_on
from deploy.picture.upscaler import Upscaler
from deploy.sampling.plan import PlanRow

Array = NDArray[Any]
Progress = Callable[[str, float], None]

CORRECTING_EVERY = 6
"""Of the recorded inputs one in so many enters the means: each of them has thousands of pixels."""


def bias_corrections(
    graph: Path,
    findings: Findings,
    scales: Sequence[Scales],
    inputs: Inputs,
    example: Mapping[str, Array],
    *,
    threads: int | None = None,
    progress: Progress,
) -> list[Corrections]:
    """For each of `scales`, what every layer's output needs in each range to have the float mean."""
    tensors = list(dict.fromkeys(one.layer.input for one in findings.layers.values()))
    readers = {name: [one for one in findings.layers.values() if one.layer.input == name] for name in tensors}
    means: dict[tuple[int, str, int], InputMean] = {}
    count = inputs.count(CORRECTING_EVERY)
    with Observer(graph, tensors, example=example, threads=threads) as observer:
        for done, one in enumerate(inputs.each(CORRECTING_EVERY)):
            for name, values in observer.run(one.feeds):
                for number, chosen in enumerate(scales):
                    index = chosen.partition.range_of_step(one.level_index)
                    quantizer = chosen.quantizers[name][index]
                    for layer in (found.layer for found in readers[name]):
                        key = (number, layer.node, index)
                        mean = means.setdefault(key, InputMean(layer.geometry))
                        mean.add(as_map(equalised(values, layer, findings.factors), layer), quantizer)
            progress(f"measuring mean errors, step {done + 1} of {count}", (done + 1) / count)
    model = read_graph(graph)
    weights = {
        node: divided_weights(model, graph.parent, one.layer, findings.factors) for node, one in findings.layers.items()
    }
    return [_corrections(findings, chosen, means, number, weights) for number, chosen in enumerate(scales)]


def _corrections(
    findings: Findings,
    chosen: Scales,
    means: Mapping[tuple[int, str, int], InputMean],
    number: int,
    weights: Mapping[str, Array],
) -> Corrections:
    made = {}
    for node, one in findings.layers.items():
        rows = [
            bias_correction(node, weights[node], one.rounded.weights, mean.mean, mean.rounding_mean)
            for mean in (means[number, node, index] for index in range(len(chosen.ranges)))
        ]
        made[node] = np.stack(rows).astype(np.float32)
    return made


def noise_corrections(
    bundle: Bundle,
    targets: Sequence[str],
    inputs: Inputs,
    levels: Sequence[float],
    *,
    threads: int | None = None,
    progress: Progress,
) -> dict[str, list[LevelCorrection]]:
    """Per target and recorded level, how to correct what the int8 graphs predict so that it is right on average."""
    found = {}
    for number, target in enumerate(targets):

        def tell(doing: str, fraction: float, number: int = number) -> None:
            progress(doing, (number + fraction) / len(targets))

        lanes = lanes_on(backend_of_target(target), threads)
        with int8_upscaler(bundle, target, lanes.threads) as upscaler:
            found[target] = _noise_corrections(upscaler, lanes, inputs, levels, tell)
    return found


def _noise_corrections(
    upscaler: Upscaler, lanes: Lanes, inputs: Inputs, levels: Sequence[float], progress: Progress
) -> list[LevelCorrection]:
    errors = NoiseErrors(steps=len(levels), channels=upscaler.model.channels)
    left = EstimateErrors(levels, upscaler.model.channels, clip=upscaler.model.sampling.clip)
    rows = [upscaler.graphs.row(PlanRow.evaluation(level)) for level in levels]
    count = inputs.count(CORRECTING_EVERY)

    def predicted(one: DenoiserInput) -> tuple[DenoiserInput, Array]:
        return one, upscaler.graphs.predicted_noise(one.feeds["x"], one.feeds, rows[one.level_index])

    for done, (one, made) in enumerate(lanes.each(predicted, inputs.each(CORRECTING_EVERY))):
        errors.add(one.level_index, one.predicted, made)
        left.add(one.level_index, one.feeds["x"], one.predicted, made)
        progress(f"measuring what int8 changes in a step, {done + 1} of {count}", (done + 1) / count)
    fitted = [errors.correction(index, level) for index, level in enumerate(levels)]
    return [
        LevelCorrection(
            noise_level=noise.noise_level,
            gain=noise.gain,
            offset=noise.offset,
            estimate_variance=left.variance(index),
        )
        for index, noise in enumerate(fitted)
    ]


class EstimateErrors:
    """How far the pictures that int8 estimates are from those of the float network, per noise level.

    With clip an estimate is limited to [-1, 1] as in the sampler: at high noise the unlimited ones are far apart and
    the limited ones are what moves the state.
    """

    def __init__(self, levels: Sequence[float], channels: int, *, clip: bool) -> None:
        self._levels = levels
        self._clip = clip
        self._sums = np.zeros((len(levels), 2, channels))  # of the differences and of their squares
        self._counts = np.zeros(len(levels))

    def add(self, index: int, x: Array, exact: Array, quantized: Array) -> None:
        """Take in one state and both predictions of its noise, all (batch, channels, height, width)."""
        apart = self._estimate(index, x, exact) - self._estimate(index, x, quantized)
        self._sums[index] += [apart.sum(axis=(0, 2, 3)), np.square(apart).sum(axis=(0, 2, 3))]
        self._counts[index] += apart[:, 0].size

    def variance(self, index: int) -> float:
        """At one level, of the differences of a channel around their mean, averaged over channels."""
        means, squares = self._sums[index] / self._counts[index]
        return float(np.maximum(squares - means**2, 0.0).mean())

    def _estimate(self, index: int, x: Array, noise: Array) -> Array:
        level = self._levels[index]
        estimate = (x.astype(np.float64) - math.sqrt(1 - level**2) * noise) / level
        return np.clip(estimate, -1, 1) if self._clip else estimate
