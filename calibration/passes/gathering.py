"""One pass over the trajectories per group of layers: histograms, covariances, extremes; then rounded weights.

A short pass before them finds the factors that equalise the channels of each input (`calibration.choose.equalisation`);
histograms and covariances are those of the inputs times their factors, and the weights that are rounded are divided.

Covariances of all layers of the full IDM take 4 GB. Layers are therefore divided among passes so that what is held at
a time fits the memory allowed, and a covariance is gone as soon as its layer is rounded. The result of each pass is
stored under a name made of its layers: an interrupted calibration goes on with the next pass, and one that divides the
layers otherwise, because more or less memory is free, takes no pass for another.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.choose.rounding import RoundedWeights, round_to_nearest, round_weights
from calibration.errors import StatisticsError
from calibration.lanes import Lanes, lanes_for
from calibration.observe.covariance import InputCovariance, passes_within
from calibration.observe.layers import Layer, as_map, layers_of, read_graph, readers_of
from calibration.observe.observer import CURE, Observer, largest_of, smallest_of
from calibration.observe.step_statistics import StepStatistics
from calibration.one_thread import products_on_one_thread
from calibration.passes.equalising import divided_weights, equalised, equalising_factors
from calibration.passes.inputs import Inputs
from engines.arrays import Array
from engines.new_files import new_file
from engines.progress import Progress, part_of

EVERY = 2
"""Of the recorded inputs one in so many is looked at: of every noise level, each of them with other pictures than the
last, and all inputs where there is one group of pictures."""

POSITIONS = 128
"""Output positions of one input, that is of up to four pictures at one step, that enter a covariance, about: they lie
on an even lattice. The inputs of the packaged pictures with the demo model's plans are so 6 to 9 thousand positions
for at most 2304 columns; the published model has 4608. Twice as many changed the fidelity by less than 0.1 dB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What one layer was seen to do. low, high: extremes of the float output per level and channel."""

    layer: Layer
    rounded: RoundedWeights
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What all passes found: layers by node, and a histogram per input tensor and level.

    factors: what the channels of an input are multiplied by, for those where that pays; histograms and rounded weights
    are of what results.
    """

    layers: dict[str, Gathered]
    inputs: StepStatistics
    factors: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def quantizable_layers(graph: Path) -> list[Layer]:
    """The layers of a denoiser that may run in int8: all but those nearest to the graph's inputs and outputs.

    Those see the state itself and make the predicted noise, where eight bits are too few: on the demo model the last
    convolution alone, with its output in eight bits as ONNX Runtime needs it, took the fidelity from 40.8 to 30.9 dB.
    """
    model = read_graph(graph)
    layers = {layer.output: layer for layer in layers_of(model)}
    makers = {output: node for node in model.graph.node for output in node.output}
    last, waiting = set(), [entry.name for entry in model.graph.output]
    while waiting:  # back from the outputs, up to the first layer on each way
        name = waiting.pop()
        if name in layers:
            last.add(name)
        elif name in makers:
            waiting += [one for one in makers[name].input if one]
    inputs = {entry.name for entry in model.graph.input}
    return [one for one in layers.values() if one.input not in inputs and one.output not in last]


def gather(
    graph: Path,
    layers: Sequence[Layer],
    inputs: Inputs,
    example: Mapping[str, Array],
    folder: Path,
    *,
    memory_bytes: int,
    second_order: bool = True,
    equalise: bool = False,
    threads: int | None = None,
    progress: Progress,
) -> Findings:
    """Histograms of all inputs and rounded weights of all layers; what `folder` holds already is not made again."""
    factors: dict[str, NDArray[np.float32]] = {}
    if equalise:
        factors = equalising_factors(
            graph, layers, inputs.each(1), example, folder, threads, lambda doing: progress(doing, 0.0)
        )
    passes = passes_of(layers, memory_bytes, second_order=second_order)
    found: dict[str, Gathered] = {}
    statistics = StepStatistics(steps=len(inputs.levels))
    for number, part in enumerate(passes):
        known = set(statistics.names)
        path = folder / _file_name(part, known, second_order=second_order, equalise=equalise)
        if not path.exists():
            one_pass = _Pass(graph, part, inputs.levels, skip=known, second_order=second_order, factors=factors)
            one_pass.run(inputs, example, threads, part_of(progress, number, len(passes)))
            with new_file(path) as file:
                made: Any = one_pass.to_arrays()
                np.savez(file, **made)
        with np.load(path, allow_pickle=False) as arrays:
            _read_pass(path, arrays, part, statistics, found)
    return Findings(layers=found, inputs=statistics, factors=factors)


def rounded_weights(name: str, weight: Array, covariance: InputCovariance | None) -> RoundedWeights:
    """The codes of a layer's weights: of second order by the covariance of its input, to the nearest without one."""
    return round_to_nearest(name, weight) if covariance is None else round_weights(name, weight, covariance.products)


def passes_of(layers: Sequence[Layer], memory_bytes: int, *, second_order: bool) -> list[list[Layer]]:
    """The layers of each pass; all in one without second order, which alone needs covariances."""
    if not second_order:
        return [list(layers)]
    by_node = {layer.node: layer for layer in layers}
    passes = passes_within({node: layer.geometry for node, layer in by_node.items()}, memory_bytes)
    return [[by_node[node] for node in nodes] for nodes in passes]


def _file_name(layers: Sequence[Layer], known: set[str], *, second_order: bool, equalise: bool) -> str:
    """The same for whatever finds the same; known: input tensors that earlier passes have counted."""
    told = [[layer.node for layer in layers], sorted({one.input for one in layers} - known), second_order, equalise]
    return f"gathered-{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}.npz"


class _Pass:
    """Some layers over all inputs."""

    def __init__(
        self,
        graph: Path,
        layers: Sequence[Layer],
        levels: Sequence[float],
        *,
        skip: set[str],
        second_order: bool,
        factors: Mapping[str, Array],
    ) -> None:
        self.graph = graph
        self.layers = layers
        self._levels = levels
        self._factors = factors
        self._statistics = StepStatistics(steps=len(levels))
        self._counted = {layer.input for layer in layers} - skip
        self._covariances = {
            layer.node: InputCovariance(layer.geometry, most_positions=POSITIONS) for layer in layers if second_order
        }
        self._low: dict[tuple[str, int], NDArray[np.float32]] = {}
        self._high: dict[tuple[str, int], NDArray[np.float32]] = {}
        self._readers = readers_of(layers)
        self._smallest = {smallest_of(layer.output): layer for layer in layers}
        self._largest = {largest_of(layer.output): layer for layer in layers}

    def run(self, inputs: Inputs, example: Mapping[str, Array], threads: int | None, progress: Progress) -> None:
        extremes = {layer.output: layer.channel_axis for layer in self.layers}
        lanes, tensors = lanes_for(threads), [layer.input for layer in self.layers]
        takers = Lanes(count=lanes.threads or 1, threads=1)
        with (
            Observer(self.graph, tensors, example=example, extremes=extremes, threads=lanes.threads) as observer,
            products_on_one_thread(),
        ):

            def observed() -> Iterator[tuple[int, int, dict[str, Array]]]:
                for number, entry in enumerate(inputs.each(EVERY)):
                    yield from ((number, entry.level_index, group) for group in observer.groups_of(entry.feeds))

            count = inputs.count(EVERY)
            for number, level, group in lanes.ahead(observed()):  # two groups of tensors are held, not all of an input
                take = partial(self._take_finite, group, level)
                for _ in takers.each(take, list(group)):
                    pass
                progress(f"looking inside the network, step {number + 1} of {count}", 0.9 * (number + 1) / count)
        with products_on_one_thread():
            self._rounded = dict(self._round(lanes, progress))

    def _take_finite(self, group: dict[str, Array], level: int, name: str) -> None:
        """The values of a tensor, which leave the group that they are in."""
        values = group.pop(name)
        try:
            self._take(name, values, level)
        except StatisticsError as error:
            made = self._smallest.get(name) or self._largest.get(name)
            layer = f"the output of {made.node!r}" if made else f"the input of {self._readers[name][0].node!r}"
            where = f"at noise level {self._levels[level]:.4g} (level {level + 1} of {len(self._levels)})"
            strange = np.count_nonzero(~np.isfinite(values))
            what = f"{strange} of {values.size} {'channels' if made else 'values'} are not finite"
            what = what if strange else f"values are too large ({error})"
            raise StatisticsError(f"observing {layer} {where}: {what}. {CURE}") from error

    def _take(self, name: str, values: Array, level: int) -> None:
        for writers, extremes, furthest in (
            (self._smallest, self._low, np.minimum),
            (self._largest, self._high, np.maximum),
        ):
            if (made := writers.get(name)) is not None:
                if not np.isfinite(values).all():
                    raise StatisticsError("taking the extremes of each channel: some values are not finite.")
                before = extremes.get((made.node, level))
                extremes[made.node, level] = values if before is None else furthest(before, values)
        if name not in self._readers:
            return
        readers = self._readers[name]
        read = equalised(values, readers[0], self._factors)
        if name in self._counted:
            self._statistics.observe(name, level, read)
        for layer in readers:
            if layer.node in self._covariances:
                self._covariances[layer.node].add(as_map(read, layer))

    def _round(self, lanes: Lanes, progress: Progress) -> Iterator[tuple[str, RoundedWeights]]:
        model = read_graph(self.graph)
        rounded = lanes.each(partial(self._rounded_of, model), self.layers)
        for number, (layer, made) in enumerate(zip(self.layers, rounded, strict=True)):
            progress(f"rounding the weights of {layer.module}", 0.9 + 0.1 * number / len(self.layers))
            yield layer.node, made

    def _rounded_of(self, model: ModelProto, layer: Layer) -> RoundedWeights:
        weight = divided_weights(model, self.graph.parent, layer, self._factors)
        return rounded_weights(layer.node, weight, self._covariances.pop(layer.node, None))

    def to_arrays(self) -> dict[str, Array]:
        """What this pass found as plain arrays; layers by their number in it."""
        arrays: dict[str, Array] = {f"inputs.{key}": value for key, value in self._statistics.to_arrays().items()}
        arrays["nodes"] = np.array([layer.node for layer in self.layers])
        for number, layer in enumerate(self.layers):
            rounded = self._rounded[layer.node]
            levels = range(len(self._levels))
            arrays |= {
                f"{number}.codes": rounded.codes,
                f"{number}.scales": rounded.scales,
                f"{number}.errors": np.array([rounded.error, rounded.nearest_error, rounded.signal]),
                f"{number}.low": np.stack([self._low[layer.node, level] for level in levels]),
                f"{number}.high": np.stack([self._high[layer.node, level] for level in levels]),
            }
        return arrays


def _read_pass(
    path: Path,
    arrays: Mapping[str, Array],
    layers: Sequence[Layer],
    statistics: StepStatistics,
    found: dict[str, Gathered],
) -> None:
    if (nodes := arrays["nodes"].tolist()) != (expected := [layer.node for layer in layers]):
        raise StatisticsError(
            f"reading {path}: it holds {', '.join(nodes)}, but {', '.join(expected)} were expected. Delete it and"
            " quantize again."
        )
    prefix = "inputs."
    counted = {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}
    statistics.merge(StepStatistics.from_arrays(counted))
    for number, layer in enumerate(layers):
        error, nearest, signal = (float(value) for value in arrays[f"{number}.errors"])
        rounded = RoundedWeights(
            codes=np.array(arrays[f"{number}.codes"]),
            scales=np.array(arrays[f"{number}.scales"]),
            error=error,
            nearest_error=nearest,
            signal=signal,
        )
        low, high = (np.array(arrays[f"{number}.{side}"]) for side in ("low", "high"))
        found[layer.node] = Gathered(layer=layer, rounded=rounded, low=low, high=high)
