"""Quantizers of the ranges of one tensor."""

from pathlib import Path

import numpy as np
import pytest

from calibration.choose.clipping import MinMax, Mse
from calibration.choose.common_window import quantizers_of_ranges
from calibration.choose.density import density_of
from calibration.choose.quantizer import Asymmetric, Symmetric
from calibration.observe.layers import layers_of, read_graph
from calibration.observe.observer import multiplications_of
from calibration.observe.statistics import histogram_of
from calibration.passes.gathering import quantizable_layers
from deploy.bundle import Bundle
from tests.calibration.int8_layers import conv

RNG = np.random.default_rng(1)
NARROW, WIDE = (density_of(histogram_of(scale * RNG.standard_normal(20000).astype(np.float32))) for scale in (1.0, 3.0))


def test_symmetric_ranges_choose_for_themselves() -> None:
    one, three = quantizers_of_ranges([[NARROW], [WIDE]], [[1.0], [1.0]], Symmetric(), MinMax())
    extremes = [max(-one.minimum, one.maximum) for one in (NARROW, WIDE)]
    assert [one.scale, three.scale] == pytest.approx([extreme / 127 for extreme in extremes])


def test_unsigned_ranges_share_their_zero_point() -> None:
    one, three = quantizers_of_ranges([[NARROW], [WIDE]], [[1.0], [1.0]], Asymmetric(), Mse())
    assert one.lowest == three.lowest
    assert 2.0 < three.scale / one.scale < 4.0


def test_multiplications_by_hand(tmp_path: Path) -> None:
    """Two pictures of 7x9 outputs, 5 channels, each summed over 6 channels under 3x3: 2*63*5*54 = 34020."""
    single = conv(tmp_path)
    assert multiplications_of(tmp_path / "float.onnx", {"x": single.x.shape}) == {"m/Conv": 34020.0}


def test_the_layers_nearest_to_inputs_and_outputs_stay_in_float(micro: Bundle) -> None:
    """In both forms of the graph, the convolution that sees the state and the one that makes the noise."""
    for form in ("instance", "group"):
        graph = micro.graph("denoise", form)
        every = {layer.node for layer in layers_of(read_graph(graph))}
        assert every - {layer.node for layer in quantizable_layers(graph)} == {
            "denoise_fn.downs.0.b/Conv",
            "denoise_fn.final_conv.block.3/Conv",
        }
