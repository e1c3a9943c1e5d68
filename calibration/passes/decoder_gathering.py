"""What the layers of a decoder graph were seen to do: histograms, extremes and rounded weights, per shared weight.

The query graph applies each of its layers four times, once per look-up of the local ensemble. The four applications
are one layer here: their inputs share a histogram, hence a scale, and their weights are rounded once for all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.choose.density import Density, density_of
from calibration.choose.rounding import RoundedWeights
from calibration.errors import StatisticsError
from calibration.observe.covariance import InputCovariance, passes_within
from calibration.observe.layers import CONV, Layer, bias_of, layers_of, read_graph, readers_of, weights_of
from calibration.observe.observer import Observer
from calibration.observe.statistics import ChannelExtremes, channel_extremes_of, merge_extremes
from calibration.observe.step_statistics import StepStatistics
from calibration.passes.gathering import quantizable_layers, rounded_weights
from engines.arrays import Array

Feeds = Mapping[str, Array]
EachFeeds = Callable[[], Iterable[Feeds]]
"""The inputs of a graph, from the beginning whenever it is called."""

POSITIONS = 1024
"""Positions of each input that enter a covariance: all of a latent of 32x32. A decoder has few inputs."""


NORMALISATIONS = ("GroupNormalization", "InstanceNormalization")


@dataclass(frozen=True, kw_only=True, eq=False)
class DecoderFindings:
    """What a graph was seen to do. rounded: by weight; densities: by input; low, high, biases: by node."""

    graph: Path
    layers: tuple[Layer, ...]
    rounded: Mapping[str, RoundedWeights]
    densities: Mapping[str, Density]
    low: Mapping[str, NDArray[np.float32]]
    high: Mapping[str, NDArray[np.float32]]
    biases: Mapping[str, NDArray[np.float32]]


def convolutions_of_decode(graph: Path) -> list[Layer]:
    """The layers of `decode` behind its first normalisation, but for those that make its output.

    The latent reaches it through one or two convolutions, a few hundredths of the work.
    """
    behind: set[str] = set()
    for node in read_graph(graph).graph.node:  # in the order in which they run
        if node.op_type in NORMALISATIONS or behind & set(node.input):
            behind |= set(node.output)
    return [layer for layer in quantizable_layers(graph) if layer.kind == CONV and layer.input in behind]


def layers_of_query(graph: Path) -> list[Layer]:
    """The layers of `query` that follow a ReLU, the one that makes the colours included."""
    model = read_graph(graph)
    after_relu = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    return [layer for layer in layers_of(model) if layer.input in after_relu]


def hidden_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Without those that make the colours: the ones whose weight is applied last."""
    return [layer for layer in layers if layer.weight != layers[-1].weight]


def gather_decoder(
    graph: Path,
    layers: Sequence[Layer],
    feeds: EachFeeds,
    *,
    memory_bytes: int,
    second_order: bool,
    threads: int | None,
) -> DecoderFindings:
    """Rounded weights, densities of inputs and extremes of outputs of a decoder's layers, over all feeds.

    With second order there is a pass over the feeds per group of layers whose covariances fit `memory_bytes`, else one.
    """
    model = read_graph(graph)
    by_weight: dict[str, list[Layer]] = {}
    for layer in layers:
        by_weight.setdefault(layer.weight, []).append(layer)
    rounded: dict[str, RoundedWeights] = {}
    recorder = _Recorder(by_weight)
    geometries = {name: same[0].geometry for name, same in by_weight.items()}
    for weights in passes_within(geometries, memory_bytes) if second_order else [list(by_weight)]:
        part = [layer for name in weights for layer in by_weight[name]]
        covariances = {name: InputCovariance(geometries[name], most_positions=POSITIONS) for name in weights}
        recorder.observe(graph, part, feeds, covariances if second_order else {}, threads)
        for name in weights:
            values = weights_of(model, graph.parent, by_weight[name][0])
            rounded[name] = rounded_weights(name, values, covariances.pop(name) if second_order else None)
    return DecoderFindings(
        graph=graph,
        layers=tuple(layers),
        rounded=rounded,
        densities=recorder.densities(layers),
        low={node: of_output.minimum for node, of_output in recorder.extremes.items()},
        high={node: of_output.maximum for node, of_output in recorder.extremes.items()},
        biases={layer.node: bias_of(model, graph.parent, layer) for layer in layers if layer.kind == CONV},
    )


def _positions(values: Array, layer: Layer) -> Array:
    """The input as (batch, channels, rows, columns): of a linear layer one row of at most POSITIONS pixels."""
    if layer.kind == CONV:
        return values
    pixels = values.reshape(-1, values.shape[-1])
    return pixels[:: -(-pixels.shape[0] // POSITIONS)].T[None, :, None]


class _Recorder:
    """Histograms per shared input, and extremes of the outputs of convolutions."""

    def __init__(self, by_weight: Mapping[str, Sequence[Layer]]) -> None:
        self.extremes: dict[str, ChannelExtremes] = {}
        self._statistics = StepStatistics(steps=1)
        self._shared = {layer.input: same[0].input for same in by_weight.values() for layer in same}
        self._counted: set[str] = set()

    def observe(
        self,
        graph: Path,
        layers: Sequence[Layer],
        feeds: EachFeeds,
        covariances: Mapping[str, InputCovariance],
        threads: int | None,
    ) -> None:
        """Count what `layers` read and make, for all feeds; a tensor that was counted before is passed over."""
        readers = readers_of(layers)
        makers = {layer.output: layer for layer in layers if layer.kind == CONV}
        tensors = [*readers, *makers]
        new = set(readers) - self._counted
        self._counted |= new
        example = max(feeds(), key=lambda inputs: sum(array.size for array in inputs.values()))
        with Observer(graph, tensors, example=example, threads=threads) as observer:
            for inputs in feeds():
                for name, values in observer.run(inputs):
                    if name in new:
                        self._statistics.observe(self._shared[name], 0, values)
                    for layer in readers.get(name, ()):
                        if layer.weight in covariances:
                            covariances[layer.weight].add(_positions(values, layer))
                    if name in makers:
                        self._see(makers[name], values)

    def _see(self, layer: Layer, values: Array) -> None:
        try:
            extremes = channel_extremes_of(values, axis=layer.channel_axis)
        except StatisticsError as error:
            raise StatisticsError(f"output of {layer.node!r}: {error}") from error
        before = self.extremes.get(layer.node)
        self.extremes[layer.node] = merge_extremes(before, extremes) if before else extremes

    def densities(self, layers: Sequence[Layer]) -> dict[str, Density]:
        """The density of each input tensor; those that share a weight share one."""
        by_name = {name: density_of(self._statistics.overall(name)) for name in self._statistics.names}
        return {layer.input: by_name[self._shared[layer.input]] for layer in layers}
