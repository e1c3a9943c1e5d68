"""What int8 graphs take on disk, with made-up scales in place of a calibration."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.layers import CONV, Layer, bias_of, read_graph, weights_of
from calibration.quantizer import Form, Quantizer
from calibration.recipe import LayerRecipe, Recipe, output_window
from calibration.rounding import round_to_nearest
from calibration.targets.table import target_named
from deploy.bundle import Bundle, BundleWriter
from deploy.demo.packaged import IDM_BUNDLE
from deploy.export.weights_file import ALIGNMENT, places_of
from deploy.quantization.drafts import quantization_of
from deploy.quantization.gathering import quantizable_layers
from deploy.quantization.settings import TARGET_NAMES
from deploy.quantization.storing import FORM_OF_TARGET, graphs_of_target


def made_up_recipe(bundle: Bundle, target: str, ranges: int) -> Recipe:
    """All layers, with weights rounded to nearest and other scales in every range."""
    graph = bundle.graph("denoise", FORM_OF_TARGET[target])
    model, form = read_graph(graph), target_named(target)[1]
    layers = []
    for number, layer in enumerate(quantizable_layers(graph)):
        weight = weights_of(model, graph.parent, layer)
        codes, scales = round_to_nearest(layer.node, weight)
        told = LayerRecipe(
            node=layer.node, codes=codes, weight_scales=scales, inputs=made_up_inputs(form, number, ranges)
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


def quantized_without_calibration(folder: Path, target: str, ranges: int) -> Bundle:
    """The packaged bundle with int8 graphs of one target."""
    shutil.copytree(IDM_BUNDLE, folder)
    bundle = Bundle.open(folder)
    edges = np.linspace(0, 1, ranges + 1).tolist()
    made = graphs_of_target(bundle, target, made_up_recipe(bundle, target, ranges), edges)
    with BundleWriter.update(bundle) as writer:
        told = quantization_of(writer, bundle, [made], [0.5], {})
        return writer.commit(replace(bundle.manifest, quantization=told))


def int8_bytes(bundle: Bundle, target: str) -> int:
    """Of everything that quantizing added: graph, int8 weights, rows, and what the manifest says."""
    assert bundle.manifest.quantization is not None
    told = bundle.manifest.quantization["targets"][target]
    files = set(strings_of(told)) & set(bundle.manifest.files) - set(bundle.manifest.graphs["denoise"]["weights"])
    return sum(bundle.manifest.files[name].bytes for name in files) + len(json.dumps(dict(told)))


def strings_of(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in strings_of(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in strings_of(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_eight_ranges_cost_at_most_five_percent_more_disk_than_one(target: str, tmp_path: Path) -> None:
    """All scales differ between all ranges here, which is the most that ranges can cost."""
    sizes = [
        int8_bytes(quantized_without_calibration(tmp_path / f"{ranges}.bundle", target, ranges), target)
        for ranges in (1, 8)
    ]
    codes = sum(layer.weight_shape[0] * int(np.prod(layer.weight_shape[1:])) for layer in packaged_layers())
    assert codes < sizes[0] < 1.2 * codes
    assert sizes[0] <= sizes[1] <= 1.05 * sizes[0], f"{target}: {sizes}"


def packaged_layers() -> list[Layer]:
    return quantizable_layers(Bundle.open(IDM_BUNDLE).graph("denoise", "instance"))


def test_small_tensors_are_packed_and_large_ones_begin_a_page() -> None:
    small, large = np.zeros(3, np.float32), np.zeros(5000, np.int8)
    places = places_of({"a": small, "b": small, "c": large, "d": small, "e": large}, small_bytes=ALIGNMENT)
    assert [place.offset for place in places.values()] == [0, 64, 4096, 4096 + 5056, 12288]
    assert [place.offset for place in places_of({"a": small, "b": small}).values()] == [0, 4096]
