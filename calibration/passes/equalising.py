"""Factors that bring the channels of each layer's input to one size before it is coded, and what they do to layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.choose.equalisation import factors_of
from calibration.lanes import lanes_for
from calibration.observe.layers import LINEAR, Layer, as_map, read_graph, weights_of
from calibration.observe.observer import Observer
from calibration.observe.statistics import ChannelExtremes, channel_extremes_of, merge_extremes
from calibration.passes.inputs import DenoiserInput
from engines.new_files import new_file

Array = NDArray[Any]

EVERY = 6
"""Of the recorded steps one in so many is looked at; with 25 steps of a group of pictures always others."""


def equalising_factors(
    graph: Path,
    layers: Sequence[Layer],
    inputs: Iterator[DenoiserInput],
    example: Mapping[str, Array],
    folder: Path,
    threads: int | None,
    progress: Callable[[str], None],
) -> dict[str, NDArray[np.float32]]:
    """For each input tensor of the layers where it pays, a factor per channel; kept in `folder`.

    Every few recorded steps are enough: a factor need not be exact, since weights are divided by it.
    """
    path = folder / "factors.npz"
    if not path.exists():
        factors = _found_factors(graph, layers, inputs, example, threads, progress)
        with new_file(path) as file:
            made: Any = factors
            np.savez(file, **made)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: np.array(arrays[name]) for name in arrays.files}


def _found_factors(
    graph: Path,
    layers: Sequence[Layer],
    inputs: Iterator[DenoiserInput],
    example: Mapping[str, Array],
    threads: int | None,
    progress: Callable[[str], None],
) -> dict[str, NDArray[np.float32]]:
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        readers.setdefault(layer.input, []).append(layer)
    single = {name: found for name, found in readers.items() if all(one.geometry.groups == 1 for one in found)}
    seen: dict[str, ChannelExtremes] = {}
    lanes = lanes_for(threads)
    with Observer(graph, single, example=example, threads=lanes.threads) as observer:

        def extremes_in(one: DenoiserInput) -> dict[str, ChannelExtremes]:
            tensors = observer.run(one.feeds)
            return {name: channel_extremes_of(as_map(values, single[name][0])) for name, values in tensors}

        for found in lanes.each(extremes_in, islice(inputs, 0, None, EVERY)):
            for name, extremes in found.items():
                seen[name] = merge_extremes(seen[name], extremes) if name in seen else extremes
            progress("comparing the channels that each layer reads")
    model = read_graph(graph)
    factors_by_input = {}
    for name, extremes in seen.items():
        norms = np.sum([_norms(weights_of(model, graph.parent, layer)) for layer in single[name]], axis=0)
        factors_by_input[name] = factors_of(extremes.minimum, extremes.maximum, norms)
    return {name: factors for name, factors in factors_by_input.items() if factors is not None}


def _norms(weight: Array) -> Array:
    """Per input channel, the squares of the weights that read it, summed."""
    squares: Array = np.square(weight, dtype=np.float64).sum(axis=(0, *range(2, weight.ndim)))
    return squares


def equalised(values: Array, layer: Layer, factors: Mapping[str, Array]) -> Array:
    """The values of a layer's input times the factors of its channels, if it has any."""
    if layer.input not in factors:
        return values
    scaled: Array = values * _along_channels(factors[layer.input], layer)
    return scaled


def divided_weights(model: ModelProto, folder: Path, layer: Layer, factors: Mapping[str, Array]) -> Array:
    """The weights of a layer, output channel first, divided by the factors of its input's channels."""
    weight = weights_of(model, folder, layer)
    if layer.input not in factors:
        return weight
    divided: Array = weight / factors[layer.input].reshape(1, -1, *[1] * (weight.ndim - 2))
    return divided


def _along_channels(factors: Array, layer: Layer) -> Array:
    return factors if layer.kind == LINEAR else factors.reshape(1, -1, 1, 1)
