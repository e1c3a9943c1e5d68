"""Layers whose input channels are multiplied by factors before they are coded, in the graphs of every target."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.targets.table import target_named
from engines.adapters.openvino_engine import probe
from engines.backends import open_engine
from engines.saturation import constants_without_saturation, is_refused
from tests.calibration.int8_layers import Single, by_integers, columns_of, conv, linear, recipe, stored
from tests.engines.openvino_listing import INT8, executed_layers

BACKENDS = {"ort": "onnxruntime-cpu", "tensorrt": "onnxruntime-cpu", "openvino": "openvino-cpu"}
SCALES = (1.0, 1.7)
"""No smaller ones, so that nothing is clipped."""


def uneven(single: Single, channels: int) -> tuple[Single, np.ndarray]:
    """The layer with channels of very different sizes that matter alike, and factors that bring them to one size."""
    factors = np.array([1, 2, 3.25, 8, 5, 16, 1.5, 11, 4, 6, 7, 10], np.float32)[:channels]
    x = single.x / (factors if single.weight.ndim == 2 else columns_of(single, factors))
    return replace(single, x=x.astype(np.float32), weight=single.weight * columns_of(single, factors)), factors


@pytest.mark.parametrize("target", BACKENDS)
@pytest.mark.parametrize("layer", [conv, linear], ids=["conv", "linear"])
def test_factors_leave_the_layer_as_it_is_but_for_finer_codes(tmp_path: Path, target: str, layer: object) -> None:
    if target == "openvino" and (not probe().available or is_refused("openvino-cpu")):
        pytest.skip(probe().reason or "this CPU cuts sums of int8 products off")
    single = layer(tmp_path)  # type: ignore[operator]
    single, factors = uneven(single, single.layer.geometry.channels)
    writer, form = target_named(target).writer, target_named(target).codes
    exact = single.exact(single.x, single.weight) + single.broadcast(single.bias)
    errors: list[float] = []
    for told in (recipe(single, form, scales=SCALES), recipe(single, form, scales=SCALES, factors=factors)):
        graphs = writer(single.model, single.folder, told)
        path = stored(graphs, single.folder, f"{len(errors)}")
        unsigned = constants_without_saturation(path, BACKENDS[target])
        for index in range(len(SCALES)):
            constants = {key: value for one in graphs.constants for key, value in one.in_range(index).items()}
            with open_engine(
                path, backend=BACKENDS[target], threads=1, constants=unsigned | constants or None
            ) as engine:
                found = engine.run({"x": single.x, **{rows.input: rows.row(index) for rows in graphs.rows}})["y"]
            expected = by_integers(single, told, index, coded_output=target == "ort" and single.weight.ndim == 4)
            # As integer arithmetic has it, but for values at a tie, which float32 may move by one code.
            assert np.mean(np.abs(found - expected) <= 1e-4 * np.abs(expected).max()) > 0.95
            if index == 0:
                errors.append(float(np.mean((found - exact) ** 2)))
        if target == "openvino":
            kind = "Convolution" if single.weight.ndim == 4 else "FullyConnected"
            layers = {precision: count for (name, precision), count in executed_layers(path).items() if name == kind}
            assert layers and set(layers) <= set(INT8)
    assert errors[1] < errors[0] / 4
