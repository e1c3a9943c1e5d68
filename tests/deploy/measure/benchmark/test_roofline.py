"""The product that stands for a machine's peak, and the share of it that a step reaches."""

from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.engine.turns import Timing
from deploy.images.sizes import Size
from deploy.measure.benchmark import roofline
from deploy.measure.benchmark.roofline import (
    RooflineRow,
    multiplications_per_step,
    roofline_rows,
    time_products,
    write_product,
)
from deploy.measure.benchmark.settings import BenchSettings
from engines.backends import BACKENDS, open_engine
from engines.contract import CONSTANT_QDQ, QLINEAR, SCALED_QDQ
from engines.saturation import int8_saturates
from tests.deploy.measure.benchmark.clock import silent

ON_CPU = [name for name in ("onnxruntime-cpu", "openvino-cpu") if BACKENDS[name].probe().available]


def test_the_best_product_against_the_median_step() -> None:
    products = [
        Timing(name="a", times_ms=(4.0, 2.0, 3.0)),
        Timing(name="b", failure="fell over"),
        Timing(name="c", times_ms=(1.0,)),
    ]
    steps = [Timing(name="PyTorch", times_ms=(9.0,)), Timing(name="a", times_ms=(10.0, 30.0, 20.0))]
    rows = roofline_rows(products, steps, of_product=6e9, of_step=8e9)
    assert rows[0].peak == pytest.approx(3e12)  # 6e9 in 2 ms
    assert rows[0].reached == pytest.approx(4e11)  # 8e9 in 20 ms
    assert rows[0].fraction == pytest.approx(4 / 30)
    assert rows[1] == RooflineRow(name="b", failure="fell over")
    assert rows[2].reached is None and rows[2].fraction is None


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("form", [None, QLINEAR, SCALED_QDQ, CONSTANT_QDQ])
def test_the_graph_is_that_product(backend: str, form: str | None, tmp_path: Path) -> None:
    if form is not None and int8_saturates(backend):
        pytest.skip("this CPU cuts sums of int8 products off")
    path = tmp_path / "product.onnx"
    feeds = write_product(path, form, 32)
    constants = roofline._constants(form, 32)
    with open_engine(path, backend=backend) as engine:
        found = engine.run(feeds)["y"]
    exact = feeds["x"].astype(np.float64) @ constants["w"].astype(np.float64)
    if form == QLINEAR:
        exact = np.clip(np.rint(exact / constants["y_scale"]), 0, 255)
        assert 16 < len(np.unique(found)) < 256  # not everything saturates
        np.testing.assert_allclose(found, exact, atol=1)
    else:
        # codes are whole numbers, so a quantized product is exact; float32 sums of 32 terms are not
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-2)


def test_multiplications_of_a_step_grow_with_the_pixels(idm_micro: Bundle) -> None:
    small = multiplications_per_step(idm_micro, BenchSettings(size=Size(16, 16), threads=1))
    large = multiplications_per_step(idm_micro, BenchSettings(size=Size(32, 32), threads=1))
    assert 3.5 < large / small <= 4.0
    assert multiplications_per_step(idm_micro, BenchSettings(size=Size(16, 16), batch=2, threads=1)) == 2 * small


def test_every_engine_that_opens_graphs_at_once_is_measured(idm_micro: Bundle) -> None:
    settings = BenchSettings(size=Size(16, 16), threads=1, rounds=2)
    rows = time_products(idm_micro, settings, [Timing(name="onnxruntime-cpu fp32", times_ms=(1.0,))], silent, side=64)
    assert {row.name.split()[0] for row in rows} == set(ON_CPU)
    assert all(row.failure is None and row.peak is not None and row.peak > 0 for row in rows)
    by_name = {row.name: row for row in rows}
    assert by_name["onnxruntime-cpu fp32"].reached is not None
