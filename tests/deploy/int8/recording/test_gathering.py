"""Layers divided among passes: the same as in one, whatever was stored by a calibration with other passes."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.errors import StatisticsError
from calibration.observe.layers import Layer, layers_of, read_graph
from calibration.passes.gathering import Findings, gather
from calibration.passes.inputs import DenoiserInput, Inputs

CHANNELS = 4
COVARIANCE = 4 * (9 * CHANNELS) ** 2
"""Bytes of the sums of one layer: of 36 unfolded values, in float32."""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Four 3x3 convolutions, d(relu(b(relu(a(x)))) + relu(c(relu(a(x))))): b and c read the same tensor."""
    rng = np.random.default_rng(5)
    shape = (CHANNELS, CHANNELS, 3, 3)
    weights = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) for name in "abcd"}
    nodes = [
        convolution("a", "x"),
        helper.make_node("Relu", ["a"], ["ra"], name="a/Relu"),
        convolution("b", "ra"),
        convolution("c", "ra"),
        helper.make_node("Relu", ["b"], ["rb"], name="b/Relu"),
        helper.make_node("Relu", ["c"], ["rc"], name="c/Relu"),
        helper.make_node("Add", ["rb", "rc"], ["s"], name="s/Add"),
        convolution("d", "s"),
    ]
    entries = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", CHANNELS, "h", "w"]) for n in "xd"]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "four", entries[:1], entries[1:], tensors),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    (tmp_path / "graph").mkdir()
    path = tmp_path / "graph" / "float.onnx"
    onnx.save(model, path, save_as_external_data=True, location="float.bin", size_threshold=0)
    return path


def convolution(name: str, read: str) -> onnx.NodeProto:
    return helper.make_node(
        "Conv", [read, f"{name}.weight"], [name], name=f"{name}/Conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
    )


def recorded() -> list[DenoiserInput]:
    """Two inputs at each of three levels; the first channel is ten times the others."""
    rng = np.random.default_rng(6)
    sizes = np.array([10, 1, 1, 1], np.float32).reshape(1, -1, 1, 1)
    values = [rng.normal(size=(2, CHANNELS, 6, 5)).astype(np.float32) * sizes for _ in range(6)]
    return [DenoiserInput(level_index=n % 3, feeds={"x": x}, predicted=x) for n, x in enumerate(values)]


def gathered(
    graph: Path, folder: Path, at_once: float, said: list[str] | None = None, stop_at: int | None = None, **how: bool
) -> Findings:
    """With memory for so many covariances at a time; interrupted at the so-many-th word of progress."""
    given = recorded()
    inputs = Inputs(lambda _: iter(given), lambda _: given, lambda _: len(given), (0.2, 0.5, 0.9))
    said = [] if said is None else said

    def tell(doing: str, _fraction: float) -> None:
        said.append(doing)
        if len(said) == stop_at:
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    return gather(
        graph,
        layers(graph),
        inputs,
        given[0].feeds,
        folder,
        memory_bytes=int(at_once * COVARIANCE),
        threads=1,
        progress=tell,
        **how,
    )


def rounding(layer: str) -> str:
    return f"rounding the weights of {layer}"


def layers(graph: Path) -> Sequence[Layer]:
    return layers_of(read_graph(graph))


def assert_same(found: Findings, expected: Findings) -> None:
    """Codes and counts are equal, values to the rounding of engines that fuse other operators."""
    assert list(found.layers) == list(expected.layers)
    for node, one in expected.layers.items():
        other = found.layers[node]
        assert other.layer == one.layer
        assert np.array_equal(other.rounded.codes, one.rounded.codes)
        assert np.array_equal(other.rounded.scales, one.rounded.scales)
        assert np.allclose(other.low, one.low, rtol=1e-5) and np.allclose(other.high, one.high, rtol=1e-5)
    assert set(found.inputs.names) == set(expected.inputs.names)
    for name in expected.inputs.names:
        for step, same in zip(expected.inputs.of_tensor(name), found.inputs.of_tensor(name), strict=True):
            assert same.count == step.count
            assert np.allclose([same.minimum, same.maximum], [step.minimum, step.maximum], rtol=1e-5)


@pytest.mark.parametrize("equalise", [False, True])
def test_several_passes_find_what_one_does(graph: Path, tmp_path: Path, equalise: bool) -> None:
    whole = gathered(graph, tmp_path / "whole", 4, equalise=equalise)
    said: list[str] = []
    divided = gathered(graph, tmp_path / "divided", 1.5, said, equalise=equalise)
    assert [line for line, _ in groupby(said)].count("looking inside the network, step 1 of 6") == 4
    assert bool(whole.factors) == equalise
    assert_same(divided, whole)


def test_another_budget_reads_no_files_of_other_passes(graph: Path, tmp_path: Path) -> None:
    """Cut as [abc][d] and then as [ab][cd]: two passes both times, of other layers."""
    gathered(graph, tmp_path / "used", 3.5)
    again = gathered(graph, tmp_path / "used", 2.5)
    assert_same(again, gathered(graph, tmp_path / "new", 2.5))


def test_a_pass_of_the_same_layers_is_read_again(graph: Path, tmp_path: Path) -> None:
    """Cut as [abc][d], then as [a][b][c][d]: only d is known. It is not if the weights are rounded otherwise."""
    gathered(graph, tmp_path / "used", 3.5)
    said: list[str] = []
    gathered(graph, tmp_path / "used", 1.5, said)
    assert [line for line in said if line.startswith("rounding")] == [rounding("a"), rounding("b"), rounding("c")]
    nearest = gathered(graph, tmp_path / "used", 3.5, second_order=False)
    assert_same(nearest, gathered(graph, tmp_path / "new", 3.5, second_order=False))


def test_rounding_to_nearest_takes_one_pass(graph: Path, tmp_path: Path) -> None:
    """Nothing is held that would have to be divided."""
    said: list[str] = []
    gathered(graph, tmp_path / "folder", 0.1, said, second_order=False)
    assert [line for line, _ in groupby(said)].count("looking inside the network, step 1 of 6") == 1


@pytest.mark.parametrize("word", ["looking inside the network, step 4 of 6", "rounding the weights of c"])
def test_what_is_interrupted_in_a_later_pass_resumes_there_to_the_same_bytes(
    graph: Path, tmp_path: Path, word: str
) -> None:
    told: list[str] = []
    gathered(graph, tmp_path / "whole", 2.5, told)
    stop_at = len(told) - told[::-1].index(word)  # in the second of the two passes
    with pytest.raises(KeyboardInterrupt):
        gathered(graph, tmp_path / "resumed", 2.5, stop_at=stop_at)
    said: list[str] = []
    gathered(graph, tmp_path / "resumed", 2.5, said)
    assert [line for line in said if line.startswith("rounding")] == [rounding("c"), rounding("d")]
    made = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(made) == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "resumed").iterdir()} == made


def test_a_file_of_other_layers_is_refused(graph: Path, tmp_path: Path) -> None:
    gathered(graph, tmp_path / "other", 2.5)
    first, second = sorted((tmp_path / "other").iterdir())
    second.write_bytes(first.read_bytes())
    with pytest.raises(StatisticsError, match=r"reading .*\.npz: it holds .*, but .* were expected\. Delete it"):
        gathered(graph, tmp_path / "other", 2.5)
