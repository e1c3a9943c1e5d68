"""One layer in int8, run from that layer on, against the whole network with that layer in int8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.choose.recipe import Recipe
from calibration.observe.layers import read_graph
from calibration.observe.observer import Shape, tensor_shapes
from calibration.passes.inputs import DenoiserInput
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from deploy.int8.storing.storing import graphs_of_target
from deploy.int8.trying import single_layers
from deploy.int8.trying.comparison import float_upscaler, int8_upscaler
from deploy.int8.trying.drafts import drafted
from deploy.int8.trying.single_layers import SingleLayers, float_tensors, part_from
from deploy.sampling.choices import Choices
from deploy.sampling.plan import PlanRow
from tests.deploy.int8.recording.test_not_finite import feeds_of


def rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values).mean()))


@pytest.mark.parametrize("target", ["ort", pytest.param("tensorrt", marks=pytest.mark.slow)])
def test_predictions_are_those_of_the_whole_network(
    micro: Bundle, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """With two ranges, which are inputs of one target's graph and constants of the other's, an input in each."""
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    monkeypatch.setattr(single_layers, "MOST_BYTES", 1 << 18)  # several rounds of observing
    presets = {"quick": Preset(equation="ddim", steps=3)}
    with BundleWriter.update(micro) as writer:
        short = writer.commit(replace(micro.manifest, presets=presets, default_preset="quick"))
    settings = QuantizeSettings(
        targets=(target,), scales=(2.0,), crop=16, pictures=1, ranges=2, max_psnr_drop=9.0, float_share=0.0
    )
    places = Places(calibration=photographs, cache=tmp_path, threads=1)
    made = quantize_bundle(short, settings, places, say=lambda _: None, progress=lambda _doing, _fraction: None)
    recipe, levels = made.recipes[target], made.plans.levels
    with float_upscaler(made.bundle, 1) as upscaler:
        row = upscaler.session.plan(upscaler.sampling(Choices())).rows[0]
        feeds = {**feeds_of(made.bundle), **upscaler.session.model.rows([row])[0].feeds}
        exact = upscaler.session.graphs.run("denoise", feeds)["noise"]
    inputs = [DenoiserInput(level_index=n, feeds=feeds, predicted=feeds["x"]) for n in (0, len(levels) - 1)]

    def recipe_of_layer(node: str) -> Recipe:
        return Recipe(ranges=2, layers=tuple(layer for layer in recipe.layers if layer.node == node))

    with drafted(made.bundle, tmp_path, levels) as draft:
        nodes = [layer.node for layer in recipe.layers][::3]
        graph = draft.bundle.graph("denoise", target_named(target).norm)
        single = SingleLayers(graph, target, nodes, inputs, [0, 1], recipe_of_layer, 2)
        before = sorted(graph.parent.iterdir())
        found = dict(zip(nodes, single.predictions(), strict=True))
        assert sorted(graph.parent.iterdir()) == before
        for node in nodes:
            edges = made.scales[target].ranges.edges
            bundle = draft.tried([graphs_of_target(draft.bundle, target, recipe_of_layer(node), edges)])
            with int8_upscaler(bundle, target, 1) as upscaler:
                for one, noise in zip(inputs, found[node], strict=True):
                    row = upscaler.session.graphs.row(PlanRow.evaluation(levels[one.level_index]))
                    whole = upscaler.session.graphs.predicted_noise(one.feeds["x"], one.feeds, row)
                    # The engine fuses other operators, so a value near a half may get the next code: that is a small
                    # part of what int8 changes, while a scale of the other range would change as much again.
                    assert rms(whole - noise) < 0.05 * rms(whole - exact)


def test_a_part_reads_no_more_than_it_needs(micro: Bundle) -> None:
    """Of the last layers it is a small part of the network, of the first all that follows."""
    path = micro.graph("denoise", "instance")
    model = read_graph(path)
    shapes: dict[str, Shape] = tensor_shapes(model, {name: one.shape for name, one in feeds_of(micro).items()})
    nodes = [node.name for node in model.graph.node if node.op_type == "Conv"]
    first, last = (part_from(model, node, float_tensors(model), shapes) for node in (nodes[1], nodes[-1]))
    assert len(last.model.graph.node) < 10 < len(first.model.graph.node)
    assert len(last.observed) == 1
    assert {entry.name for entry in last.model.graph.input} == set(last.observed)
