"""What is left after rounding and can be taken back: means of layers per range, and the predicted noise per step."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

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
from deploy.int8.trying.comparison import int8_session, lanes_on
from deploy.picture.session import Session
from deploy.sampling.plan import PlanRow
from engines.arrays import Array
from engines.progress import Progress, part_of

CORRECTING_EVERY = 6
"""One recorded input in so many enters the means: each of them has thousands of pixels."""


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
    """The corrections, for each of `scales`, that give every layer's output the float mean in each range."""
    tensors = list(dict.fromkeys(gathered.layer.input for gathered in findings.layers.values()))
    readers = {
        name: [gathered for gathered in findings.layers.values() if gathered.layer.input == name] for name in tensors
    }
    means: dict[tuple[int, str, int], InputMean] = {}
    count = inputs.count(CORRECTING_EVERY)
    with Observer(graph, tensors, example=example, threads=threads) as observer:
        for done, entry in enumerate(inputs.each(CORRECTING_EVERY)):
            for name, values in observer.run(entry.feeds):
                for number, of_target in enumerate(scales):
                    index = of_target.partition.range_of_step(entry.level_index)
                    quantizer = of_target.quantizers[name][index]
                    for layer in (gathered.layer for gathered in readers[name]):
                        key = (number, layer.node, index)
                        mean = means.setdefault(key, InputMean(layer.geometry))
                        mean.add(as_map(equalised(values, layer, findings.factors), layer), quantizer)
            progress(f"measuring mean errors, step {done + 1} of {count}", (done + 1) / count)
    model = read_graph(graph)
    weights = {
        node: divided_weights(model, graph.parent, gathered.layer, findings.factors)
        for node, gathered in findings.layers.items()
    }
    return [_corrections(findings, of_target, means, number, weights) for number, of_target in enumerate(scales)]


def _corrections(
    findings: Findings,
    chosen: Scales,
    means: Mapping[tuple[int, str, int], InputMean],
    number: int,
    weights: Mapping[str, Array],
) -> Corrections:
    corrections = {}
    for node, gathered in findings.layers.items():
        rows = [
            bias_correction(node, weights[node], gathered.rounded.weights, mean.mean, mean.rounding_mean)
            for mean in (means[number, node, index] for index in range(len(chosen.ranges)))
        ]
        corrections[node] = np.stack(rows).astype(np.float32)
    return corrections


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
    corrections = {}
    for number, target in enumerate(targets):
        lanes = lanes_on(backend_of_target(target), threads)
        with int8_session(bundle, target, lanes.threads) as session:
            corrections[target] = _noise_corrections(
                session, lanes, inputs, levels, part_of(progress, number, len(targets))
            )
    return corrections


def _noise_corrections(
    session: Session, lanes: Lanes, inputs: Inputs, levels: Sequence[float], progress: Progress
) -> list[LevelCorrection]:
    errors = NoiseErrors(steps=len(levels), channels=session.model.channels)
    of_estimates = EstimateErrors(levels, session.model.channels, clip=session.model.sampling.clip)
    rows = [session.graphs.row(PlanRow.evaluation(level)) for level in levels]
    count = inputs.count(CORRECTING_EVERY)

    def predicted(entry: DenoiserInput) -> tuple[DenoiserInput, Array]:
        return entry, session.graphs.predicted_noise(entry.feeds["x"], entry.feeds, rows[entry.level_index])

    for done, (entry, quantized) in enumerate(lanes.each(predicted, inputs.each(CORRECTING_EVERY))):
        errors.add(entry.level_index, entry.predicted, quantized)
        of_estimates.add(entry.level_index, entry.feeds["x"], entry.predicted, quantized)
        progress(f"measuring what int8 changes in a step, {done + 1} of {count}", (done + 1) / count)
    fitted = [errors.correction(index, level) for index, level in enumerate(levels)]
    return [
        LevelCorrection(
            noise_level=noise.noise_level,
            gain=noise.gain,
            offset=noise.offset,
            estimate_variance=of_estimates.variance(index),
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
