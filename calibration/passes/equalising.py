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
from calibration.observe.layers import LINEAR, Layer, as_map, read_graph, readers_of, weights_of
from calibration.observe.observer import Observer
from calibration.observe.statistics import ChannelExtremes, channel_extremes_of, merge_extremes
from calibration.passes.inputs import DenoiserInput
from engines.arrays import Array
from engines.new_files import new_file

EVERY = 9
"""One recorded step in so many is looked at; with 23 steps of a group of pictures always others."""


def equalising_factors(
    graph: Path,
    layers: Sequence[Layer],
    inputs: Iterator[DenoiserInput],
    example: Mapping[str, Array],
    folder: Path,
    threads: int | None,
    progress: Callable[[str], None],
) -> dict[str, NDArray[np.float32]]:
    """A factor for each channel of an input tensor, by its name, where factors pay; kept in `folder`.

    Every few recorded steps are enough: a factor need not be exact, since weights are divided by it.
    """
    path = folder / "factors.npz"
    if not path.exists():
        single = {
            name: readers
            for name, readers in readers_of(layers).items()
            if all(layer.geometry.groups == 1 for layer in readers)
        }
        extremes = _extremes_of(graph, single, inputs, example, threads, progress)
        model = read_graph(graph)
        factors: dict[str, Any] = {}
        for name, channels in extremes.items():
            norms = np.sum([_norms(weights_of(model, graph.parent, layer)) for layer in single[name]], axis=0)
            if (of_channels := factors_of(channels.minimum, channels.maximum, norms)) is not None:
                factors[name] = of_channels
        with new_file(path) as file:
            np.savez(file, **factors)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: np.array(arrays[name]) for name in arrays.files}


def _extremes_of(
    graph: Path,
    readers: Mapping[str, Sequence[Layer]],
    inputs: Iterator[DenoiserInput],
    example: Mapping[str, Array],
    threads: int | None,
    progress: Callable[[str], None],
) -> dict[str, ChannelExtremes]:
    merged: dict[str, ChannelExtremes] = {}
    lanes = lanes_for(threads)
    with Observer(graph, readers, example=example, threads=lanes.threads) as observer:

        def extremes_in(entry: DenoiserInput) -> dict[str, ChannelExtremes]:
            tensors = observer.run(entry.feeds)
            return {name: channel_extremes_of(as_map(values, readers[name][0])) for name, values in tensors}

        for of_input in lanes.each(extremes_in, islice(inputs, 0, None, EVERY)):
            for name, extremes in of_input.items():
                merged[name] = merge_extremes(merged[name], extremes) if name in merged else extremes
            progress("comparing the channels that each layer reads")
    return merged


def _norms(weight: Array) -> Array:
    """The sum of the squares of the weights that read each input channel."""
    squares: Array = np.square(weight, dtype=np.float64).sum(axis=(0, *range(2, weight.ndim)))
    return squares


def equalised(values: Array, layer: Layer, factors: Mapping[str, Array]) -> Array:
    """The values of a layer's input times the factors of its channels, if it has any."""
    if layer.input not in factors:
        return values
    scale = factors[layer.input]
    scaled: Array = values * (scale if layer.kind == LINEAR else scale.reshape(1, -1, 1, 1))
    return scaled


def divided_weights(model: ModelProto, folder: Path, layer: Layer, factors: Mapping[str, Array]) -> Array:
    """The weights of a layer, output channel first, divided by the factors of its input's channels."""
    weight = weights_of(model, folder, layer)
    if layer.input not in factors:
        return weight
    divided: Array = weight / factors[layer.input].reshape(1, -1, *[1] * (weight.ndim - 2))
    return divided
