"""Factors found on recorded inputs of one layer, and that they leave the layer as it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.observe.layers import Layer
from calibration.passes.equalising import EVERY, divided_weights, equalised, equalising_factors
from calibration.passes.inputs import DenoiserInput
from tests.calibration.int8_layers import Single, conv, linear

SIZES = np.array([1, 0.5, 0.2, 0.1, 1, 0.7], np.float32)


def uneven(folder: Path) -> Single:
    """A convolution whose input channels have the sizes above."""
    single = conv(folder)
    return replace(single, x=single.x * SIZES.reshape(1, -1, 1, 1))


def recorded(single: Single) -> Iterator[DenoiserInput]:
    """One step that is looked at, and others that are not, which are too large to be overlooked."""
    for step in range(EVERY):
        x = single.x if step == 0 else 1000 * single.x
        yield DenoiserInput(level_index=0, feeds={"x": x}, predicted=x)


def found(single: Single, layers: list[Layer], inputs: Iterator[DenoiserInput]) -> dict[str, np.ndarray]:
    graph, said = single.folder / "float.onnx", list[str]()
    made = equalising_factors(graph, layers, inputs, {"x": single.x}, single.folder, 1, said.append)
    assert said in ([], ["comparing the channels that each layer reads"])
    return made


def test_small_channels_get_large_factors_and_the_layer_stays_the_same(tmp_path: Path) -> None:
    single = uneven(tmp_path)
    factors = found(single, [single.layer], recorded(single))
    assert list(factors) == ["x"]
    # 1 / size, but for the extremes of random values, which differ from channel to channel.
    assert (np.abs(np.log(factors["x"] * SIZES)) < np.log(1.35)).all()
    assert factors["x"][3] == factors["x"].max() > 4
    weight = divided_weights(single.model, tmp_path, single.layer, factors)
    product = single.exact(equalised(single.x, single.layer, factors), weight)
    assert np.allclose(product, single.exact(single.x, single.weight), rtol=0, atol=1e-5 * np.abs(product).max())


def test_factors_are_found_once(tmp_path: Path) -> None:
    single = uneven(tmp_path)
    first = found(single, [single.layer], recorded(single))
    again = found(single, [single.layer], iter(()))
    assert np.array_equal(first["x"], again["x"])


def test_even_channels_and_groups_get_none(tmp_path: Path) -> None:
    single = conv(tmp_path)
    even = replace(single, x=np.repeat(single.x[:, :1], 6, axis=1))
    assert found(even, [even.layer], recorded(even)) == {}
    assert equalised(even.x, even.layer, {}) is even.x
    (tmp_path / "factors.npz").unlink()
    grouped = replace(even.layer, geometry=replace(even.layer.geometry, groups=2))
    assert found(uneven(tmp_path), [grouped], iter(())) == {}


def test_a_linear_layer_is_equalised_along_its_features(tmp_path: Path) -> None:
    single = linear(tmp_path)
    sizes = np.geomspace(1, 0.1, 12).astype(np.float32)
    single = replace(single, x=single.x * sizes)
    factors = found(single, [single.layer], recorded(single))
    assert factors["x"].shape == (12,) and factors["x"][11] > 3
    weight = divided_weights(single.model, tmp_path, single.layer, factors)
    product = single.exact(equalised(single.x, single.layer, factors), weight)
    assert np.allclose(product, single.exact(single.x, single.weight), rtol=0, atol=1e-5 * np.abs(product).max())
