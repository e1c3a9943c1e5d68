"""Every rewrite of IDM against the network as published, alone and together, at many sizes.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py), 3e-5 of the largest value; a wrong
pixel or coordinate shows as 1e-2 and more.
"""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.families.idm.family import REWRITES
from deploy.families.idm.model import lookup_tables
from deploy.families.idm.network import IdmNetwork, unused_shapes
from deploy.families.idm.rewrites import IdmParts, folded_implicit
from deploy.families.rewriting.identities import split_convolution
from deploy.families.rewriting.ops import Part
from deploy.families.rewriting.torch_ops import PartRunner
from deploy.images.coordinates import resize_index
from tests.idm_models import idm_config, idm_network
from tests.rounding import rounding_of_network

SIDES = st.integers(8, 97)


@cache
def parts(rewrites: frozenset[str]) -> list[Part]:
    network = idm_network("idm_micro")
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return IdmParts(network.config, weights, rewrites).parts()


def one_step(rewrites: frozenset[str], lr_size: tuple[int, int], size: tuple[int, int], batch: int) -> float:
    """The largest difference between the rewritten and the published network for one random step.

    As a share of what rounding explains.
    """
    network = idm_network("idm_micro")
    generator = torch.Generator().manual_seed(sum(size) + batch)
    lr = torch.rand(batch, 3, *lr_size, generator=generator) * 2 - 1
    x = torch.randn(batch, 3, *size, generator=generator)
    scaler = torch.full((batch, 1), 0.7)
    level = torch.full((batch, 1), 0.4)
    feeds = {name: torch.from_numpy(table) for name, table in lookup_tables(size, network.config.levels).items()}
    feeds |= {"lr": lr, "x": x, "scaler": scaler, "noise_level": level}
    for axis, count_in, count_out in zip(("row", "column"), lr_size, size, strict=True):
        feeds[f"{axis}_index"] = torch.from_numpy(resize_index(count_in, count_out))
    for part in parts(rewrites):
        feeds |= PartRunner(part).run({spec.name: feeds[spec.name] for spec in part.inputs})
    with torch.inference_mode():
        published = network.denoise(x, network.encode(lr, size), scaler, level)
    return float((feeds["noise"] - published).abs().max()) / rounding_of_network(network, float(published.abs().max()))


@settings(max_examples=6, deadline=None)
@given(height=SIDES, width=SIDES, batch=st.integers(1, 2))
@pytest.mark.parametrize("rewrite", sorted(REWRITES))
def test_each_rewrite_alone_changes_nothing(rewrite: str, height: int, width: int, batch: int) -> None:
    assert one_step(frozenset({rewrite}), (8, 8), (height, width), batch) < 1


@settings(max_examples=12, deadline=None)
@given(height=SIDES, width=SIDES, lr_height=st.integers(5, 12), lr_width=st.integers(5, 12))
def test_all_rewrites_together_change_nothing(height: int, width: int, lr_height: int, lr_width: int) -> None:
    assert one_step(frozenset(REWRITES), (lr_height, lr_width), (height, width), 2) < 1


def test_without_any_rewrite_the_description_is_the_published_network() -> None:
    assert one_step(frozenset(), (7, 9), (33, 50), 2) < 1


def test_folding_gives_the_product_of_the_two_layers() -> None:
    """By hand: W1 = [[1, 2, 3]] (one feature, row, column), b1 = 4, W2 = [[5]], b2 = 6; gain sqrt(2) on features."""
    weights = {
        "n.imnet.0.weight": np.array([[1, 2, 3]], dtype=np.float32),
        "n.imnet.0.bias": np.array([4], dtype=np.float32),
        "n.imnet.1.weight": np.array([[5]], dtype=np.float32),
        "n.imnet.1.bias": np.array([6], dtype=np.float32),
    }
    folded = folded_implicit(weights, "n", channels=1)
    assert folded["n.imnet.features.weight"].item() == pytest.approx(5 * 2**0.5)
    assert folded["n.imnet.features.bias"].item() == 26
    assert folded["n.imnet.rows"].item() == 10
    assert folded["n.imnet.columns"].item() == 15


def test_splitting_divides_the_inputs_and_keeps_the_bias_once() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    split = split_convolution({"c.weight": weight, "c.bias": np.ones(2, dtype=np.float32)}, "c", first=1, bias="a")
    assert split["c.a.weight"].ravel().tolist() == [0, 3]
    assert split["c.b.weight"].ravel().tolist() == [1, 2, 4, 5]
    assert set(split) == {"c.a.weight", "c.a.bias", "c.b.weight"}


def test_the_full_model_carries_less_than_its_file() -> None:
    config = idm_config("idm_ffhq_16_128")
    with torch.device("meta"):
        live = sum(value.numel() for value in IdmNetwork(config).state_dict().values())
    unused = sum(int(np.prod(shape)) for shape in unused_shapes(config).values())
    assert live + unused == pytest.approx(116.6e6, rel=1e-3)
    assert live < 101e6


def test_folded_implicit_layers_need_a_fraction_of_the_arithmetic() -> None:
    """Multiplications at 128x128: both published layers at every output pixel, the folded one at every input pixel."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in IdmNetwork(idm_config("idm_ffhq_16_128")).state_dict().items()}
    suffix = ".imnet.0.weight"
    layers = [name.removesuffix(suffix) for name in shapes if name.endswith(suffix) and name.startswith("denoise_fn")]
    published = folded = 0
    for level, layer in zip(range(len(layers), 0, -1), layers, strict=True):  # from the coarsest level upwards
        weights = {
            f"{layer}.imnet.{n}.{kind}": np.zeros(shapes[f"{layer}.imnet.{n}.{kind}"], np.float32)
            for n in (0, 1)
            for kind in ("weight", "bias")
        }
        made = folded_implicit(weights, layer, channels=len(weights[f"{layer}.imnet.1.bias"]))
        published += sum(value.size for value in weights.values() if value.ndim == 2) * (128 >> (level - 1)) ** 2
        folded += made[f"{layer}.imnet.features.weight"].size * (128 >> level) ** 2
    assert published == pytest.approx(1.96e9, rel=0.02)
    assert folded < 0.25e9
