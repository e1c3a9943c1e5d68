"""Bundles with int8 graphs whose scales are made up: what no calibration is needed for."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.choose.quantizer import Form, Quantizer
from calibration.choose.recipe import LayerRecipe, Recipe, output_window
from calibration.choose.rounding import round_to_nearest
from calibration.observe.layers import CONV, Layer, bias_of, read_graph, weights_of
from calibration.passes.gathering import quantizable_layers
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.int8.storing.storing import graphs_of_target, write_targets
from tests.deploy.quantizations import quantization


def made_up_recipe(bundle: Bundle, target: str, ranges: int) -> Recipe:
    """All layers, with weights rounded to nearest and other scales in every range."""
    graph = bundle.graph("denoise", target_named(target).norm)
    model, form = read_graph(graph), target_named(target).codes
    layers = []
    for number, layer in enumerate(quantizable_layers(graph)):
        weight = weights_of(model, graph.parent, layer)
        rounded = round_to_nearest(layer.node, weight)
        told = LayerRecipe(
            node=layer.node,
            codes=rounded.codes,
            weight_scales=rounded.scales,
            inputs=made_up_inputs(form, number, ranges),
        )
        layers.append(with_window(told, layer, bias_of(model, graph.parent, layer)))
    return Recipe(ranges=ranges, layers=tuple(layers))


def made_up_inputs(form: Form, number: int, ranges: int) -> tuple[Quantizer, ...]:
    base = form.covering(-0.28, 5.0 + number)
    return tuple(replace(base, scale=base.scale * (1 + index / ranges)) for index in range(ranges))


def with_window(told: LayerRecipe, layer: Layer, bias: np.ndarray) -> LayerRecipe:
    if layer.kind != CONV:
        return told
    spread = np.linspace(4, 6, len(told.inputs))[:, None] * np.ones(layer.outputs)
    window = output_window(-spread, spread, bias=bias, weight_scales=told.weight_scales, inputs=told.inputs)
    return replace(told, output=window)


def quantized_without_calibration(source: Path, folder: Path, target: str, ranges: int) -> Bundle:
    """A copy of a bundle with int8 graphs of one target, whose ranges divide the noise levels evenly."""
    shutil.copytree(source, folder)
    bundle = Bundle.open(folder)
    edges = np.linspace(0, 1, ranges + 1).tolist()
    made = graphs_of_target(bundle, target, made_up_recipe(bundle, target, ranges), edges)
    with BundleWriter.update(bundle) as writer:
        targets = write_targets(writer, [made], bundle.manifest.graphs["denoise"].weights)
        return writer.commit(replace(bundle.manifest, quantization=quantization(**targets)))
