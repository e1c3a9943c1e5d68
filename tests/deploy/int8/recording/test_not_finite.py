"""A network whose values stop being numbers is refused, and the layer and the step are named."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.errors import StatisticsError
from calibration.observe.layers import Layer, layers_of, read_graph
from calibration.observe.observer import first_not_finite
from calibration.passes.gathering import gather, quantizable_layers
from calibration.passes.inputs import DenoiserInput, Inputs
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.engine.trials import TrialSettings, trial_step
from deploy.images.sizes import Size
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings


def with_infinite_bias(bundle: Bundle) -> Layer:
    """The layer, neither first nor last, of whose bias one value became infinite in the bundle's file."""
    graph = bundle.graph("denoise", "instance")
    model = read_graph(graph)
    layer = quantizable_layers(graph)[4]
    node = next(node for node in model.graph.node if node.name == layer.node)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
    place = {entry.key: entry.value for entry in tensor.external_data}
    with (graph.parent / place["location"]).open("r+b") as file:
        file.seek(int(place["offset"]))
        file.write(np.array(np.inf, dtype=np.float32).tobytes())
    return layer


def feeds_of(bundle: Bundle) -> dict[str, np.ndarray]:
    with GraphSet(bundle, EngineChoice(threads=1)) as graphs:
        feeds = trial_step(graphs, TrialSettings(size=Size(16, 16), threads=1)).feeds
    inputs = {entry.name for entry in read_graph(bundle.graph("denoise", "instance")).graph.input}
    return {name: value for name, value in feeds.items() if name in inputs}


def test_quantizing_names_layer_and_step(micro: Bundle, photographs: Path, tmp_path: Path) -> None:
    presets = {"quick": Preset(equation="ddim", steps=3)}
    with BundleWriter.update(micro) as writer:
        short = writer.commit(replace(micro.manifest, presets=presets, default_preset="quick"))
    layer = with_infinite_bias(short)
    settings = QuantizeSettings(scales=(2.0,), crop=16, pictures=2)
    places = Places(calibration=photographs, cache=tmp_path / "cache", threads=1)
    told = (
        rf"step 1 of \d+ \(noise level .*\): its prediction is not finite; the output of '{layer.node}' is not,"
        " the first"
    )
    with pytest.raises(StatisticsError, match=told):
        quantize_bundle(short, settings, places, say=lambda _: None, progress=lambda _doing, _fraction: None)


def test_the_first_layer_is_found(micro: Bundle) -> None:
    graph, feeds = micro.graph("denoise", "instance"), feeds_of(micro)
    assert first_not_finite(graph, feeds) is None
    layer = with_infinite_bias(micro)
    assert first_not_finite(graph, feeds) == layer.node
    assert (
        first_not_finite(graph, feeds | {"x": feeds["x"] * np.float32(np.nan)}) == layers_of(read_graph(graph))[0].node
    )


def test_observing_names_layer_and_level(micro: Bundle, tmp_path: Path) -> None:
    """What a prediction would hide: here it is said to be finite."""
    layer, feeds = with_infinite_bias(micro), feeds_of(micro)

    def each(_every: int) -> Iterator[DenoiserInput]:
        yield DenoiserInput(level_index=1, feeds=feeds, predicted=feeds["x"])

    told = rf"observing the output of '{layer.node}' at noise level 0\.25 \(level 2 of 2\): 1 of 32 channels are not"
    with pytest.raises(StatisticsError, match=told):
        gather(
            micro.graph("denoise", "instance"),
            [layer],
            Inputs(each, lambda _: [], lambda _: 1, (0.125, 0.25)),
            feeds,
            tmp_path,
            memory_bytes=1 << 28,
            threads=1,
            progress=lambda _doing, _fraction: None,
        )
