"""Group normalisation in the convolutions' order: the same numbers, fewer copies, and nothing else touched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper

from engines.adapters import openvino_engine
from engines.adapters.openvino_normalisation import NORMALISATIONS, PLANAR
from engines.backends import backend_named, open_engine
from engines.errors import EngineError
from tests.engines.graphs import value, write_model

pytestmark = pytest.mark.skipif(not openvino_engine.probe().available, reason=openvino_engine.probe().reason or "-")

GROUPS, EPSILON = 4, 1e-5

Array = NDArray[Any]


def write_norms(folder: Path, scale: float = 1.0) -> Path:
    """y = norm(x) + 3x3 convolution of it, joined = norm of x and y joined; `scale` is what the first one ends with."""

    def norm(x: str, y: str, ones: str) -> list[Any]:
        return [
            helper.make_node("Reshape", [x, "grouped"], [f"{y}.groups"]),
            helper.make_node("InstanceNormalization", [f"{y}.groups", ones, "zeros"], [f"{y}.normal"], epsilon=EPSILON),
            helper.make_node("Shape", [x], [f"{y}.shape"]),
            helper.make_node("Reshape", [f"{y}.normal", f"{y}.shape"], [y]),
        ]

    random = np.random.default_rng(3)
    constants = {
        "grouped": np.array([0, GROUPS, -1], np.int64),
        "scales": np.full(GROUPS, scale, np.float32),
        "ones": np.ones(GROUPS, np.float32),
        "zeros": np.zeros(GROUPS, np.float32),
        "weight": random.standard_normal((16, 16, 3, 3)).astype(np.float32) / np.float32(12),
    }
    nodes = [
        *norm("x", "n", "scales"),
        helper.make_node("Conv", ["n", "weight"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["x", "c"], ["y"]),
        helper.make_node("Concat", ["y", "x"], ["both"], axis=1),
        *norm("both", "joined", "ones"),
    ]
    sides = ("height", "width")
    return write_model(
        folder / "norms.onnx",
        nodes,
        [value("x", T.FLOAT, "batch", 16, *sides)],
        [value("n", T.FLOAT, "batch", 16, *sides), value("joined", T.FLOAT, "batch", 32, *sides)],
        constants,
    )


def normalised(x: Array) -> Array:
    """By NumPy, in float64."""
    groups = x.astype(np.float64).reshape(len(x), GROUPS, -1)
    centred = groups - groups.mean(axis=2, keepdims=True)
    variance = np.square(centred).mean(axis=2, keepdims=True)
    result: Array = (centred / np.sqrt(variance + EPSILON)).reshape(x.shape)
    return result


@pytest.mark.parametrize("sizes", [{}, {"batch": 2, "height": 24, "width": 20}], ids=["dynamic", "fixed"])
def test_means_far_from_zero_do_not_cancel_and_fewer_arrays_are_copied(sizes: dict[str, int], tmp_path: Path) -> None:
    graph = write_norms(tmp_path)
    # Means of up to 1000 deviations: a mean of squares less the square of the mean would keep one digit in float32.
    random = np.random.default_rng(5)
    x = (random.standard_normal((2, 16, 24, 20)) + 1000 * random.standard_normal((1, 16, 1, 1))).astype(np.float32)
    x[:, :4] = 700 + random.standard_normal((2, 4, 24, 20)).astype(np.float32)
    found, reorders = {}, {}
    for way in NORMALISATIONS:
        with open_engine(graph, backend="openvino-cpu", threads=1, sizes=sizes, normalisation=way) as engine:
            found[way] = engine.run({"x": x})
            reorders[way] = engine.reorders() or 0
    usual, planar = (found[way] for way in NORMALISATIONS)
    # float32 holds 700 to 3e-5, of a deviation of 1; what is rounded in a mean moves all values of a group alike.
    np.testing.assert_allclose(usual["n"], normalised(x), atol=3e-4)
    np.testing.assert_allclose(usual["joined"], planar["joined"], atol=1e-3)
    # In so small a graph of open sizes, as many are left: those of its inputs and outputs.
    assert reorders["channels-last"] < reorders[PLANAR] + (not sizes)


def test_a_normalisation_that_does_more_stays_as_it_is(tmp_path: Path) -> None:
    x = np.random.default_rng(7).standard_normal((1, 16, 8, 8)).astype(np.float32)
    with open_engine(write_norms(tmp_path, scale=3.0), backend="openvino-cpu", threads=1) as engine:
        np.testing.assert_allclose(engine.run({"x": x})["n"], 3 * normalised(x), atol=1e-5)


def test_another_way_than_a_backend_has_is_refused(tmp_path: Path) -> None:
    graph = write_norms(tmp_path)
    with pytest.raises(EngineError, match=r"does not normalise 'tiled'\. It has channels-last and planar\."):
        open_engine(graph, backend="openvino-cpu", normalisation="tiled")
    with pytest.raises(EngineError, match=r"does not normalise 'planar'\. It has one way, which has no name\."):
        open_engine(graph, backend="onnxruntime-cpu", normalisation=PLANAR)
    assert backend_named("openvino-cpu").normalisations == NORMALISATIONS


def test_reorders_are_told_by_openvino_alone(tmp_path: Path) -> None:
    with open_engine(write_norms(tmp_path), backend="onnxruntime-cpu") as engine:
        assert engine.reorders() is None
