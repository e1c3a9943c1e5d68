"""What the latent decoder is fed for calibration, and what is gathered from it."""

from functools import partial

import numpy as np
import pytest

from calibration.choose.clipping import Mse
from calibration.observe.observer import Observer
from calibration.passes.decoder_gathering import convolutions_of_decode, gather_decoder, hidden_layers, layers_of_query
from calibration.targets.table import DECODE, QUERY
from deploy.bundle import Bundle
from deploy.families.latent.model import RATIOS
from deploy.int8.trying.decoder import decoder_graph
from tests.deploy.int8.latent_decoders import float_model, latents_for, tiny


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One of super-resolution."""
    return tiny("latent_sr_tiny", tmp_path_factory.mktemp("latent"))


def test_the_four_look_ups_share_histograms_and_codes(enlarging: Bundle) -> None:
    """Every value that enters any application of a layer is counted once, under one scale and one set of codes."""
    model = float_model(enlarging)
    queries = partial(model.decoder.inputs, QUERY, latents_for(model)[:1])
    graph = enlarging.graph(QUERY, "instance")
    layers = layers_of_query(graph)
    hidden = model.config.first_stage.hidden_list
    assert len(layers) == 4 * len(hidden)
    assert len(hidden_layers(layers)) == 4 * (len(hidden) - 1)
    with model.graphs:
        feeds = list(queries())
        found = gather_decoder(graph, layers, queries, memory_bytes=1 << 20, second_order=True, threads=1)
        by_weight: dict[str, list[str]] = {}
        for layer in layers:
            by_weight.setdefault(layer.weight, []).append(layer.input)
        tensors = next(iter(by_weight.values()))
        with Observer(graph, tensors, example=feeds[0], threads=1) as observer:
            largest = max(float(values.max()) for one in feeds for _, values in observer.run(one))
    assert set(found.rounded) == set(by_weight)
    for inputs_of_one in by_weight.values():
        assert len(inputs_of_one) == 4
        assert len({id(found.densities[name]) for name in inputs_of_one}) == 1
    assert found.densities[tensors[0]].maximum == pytest.approx(largest)


def test_convolutions_get_room_for_other_pictures(enlarging: Bundle) -> None:
    """127 codes on each side of the middle reach half as far again as the latents seen: (high - low) / 2 * 1.5."""
    model = float_model(enlarging)
    graph = enlarging.graph(DECODE, "instance")
    layers = convolutions_of_decode(graph)[:2]
    with model.graphs:
        feeds = partial(model.decoder.inputs, DECODE, latents_for(model)[:1])
        found = gather_decoder(graph, layers, feeds, memory_bytes=1, second_order=False, threads=1)
    _, recipe = decoder_graph(enlarging, DECODE, "ort", found, Mse())
    for told in recipe.layers:
        assert told.output is not None
        reach = 127 * told.output.steps * told.weight_scales * told.input_scales[0]
        half = (found.high[told.node] - found.low[told.node]) / 2
        # The middle is a whole number of accumulator units, and a channel that hardly moves gets one at least.
        assert np.all(reach >= 1.5 * half * (1 - 1e-4))
        assert np.median(reach / half) == pytest.approx(1.5, rel=1e-3)


def test_queries_are_those_of_pictures_of_several_sizes(enlarging: Bundle) -> None:
    model = float_model(enlarging)
    latent = latents_for(model)[0]
    with model.graphs:
        feeds = list(model.decoder.inputs(QUERY, [latent]))
    assert [one["column_offset_minus"].size for one in feeds] == [8 * ratio for ratio in RATIOS]
    # The cell is twice the size of an output pixel in latent pixels.
    assert [float(one["cell"][0]) for one in feeds] == pytest.approx([2 / ratio for ratio in RATIOS])
    offsets = feeds[-1]["row_offset_minus"]
    # Of 16 positions between two latent rows the few rows that are queried meet as many as they can.
    assert np.unique(np.round(offsets, 5)).size == min(offsets.size, RATIOS[-1])
