"""The latent family's rewrites against the network as published, and the ONNX graphs against it.

Tolerances: 2e-4 at most and 2e-5 on average, the parity that export promises; outputs are of order one. The
rewrites only reorder float32 sums, and measure 1e-5 at most on these networks.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.errors import ConfigError
from deploy.export.onnx_ops import OnnxOps
from deploy.families.latent.family import REWRITES
from deploy.families.latent.network import LatentNetwork
from deploy.families.latent.rewrites import LatentParts, unused_names
from deploy.families.rewriting.ops import Part
from tests.deploy.families.rewriting.latent_runs import (
    Arrays,
    Run,
    decoded,
    query_tables,
    run_in_onnxruntime,
    run_in_torch,
    run_parts,
    weights_of,
)
from tests.latent_models import fill_parameters, latent_config, latent_network

NAMES = ("latent_sr_tiny", "latent_gen_tiny")
CHOICES = {"none": frozenset[str](), "all": frozenset(REWRITES)} | {name: frozenset([name]) for name in REWRITES}
SIDE = st.integers(1, 3)
PIXELS = st.integers(8, 97)


def assert_same(actual: np.ndarray, expected: torch.Tensor) -> None:
    difference = np.abs(actual - expected.numpy())
    assert actual.shape == tuple(expected.shape)
    assert difference.max() <= 2e-4 and difference.mean() <= 2e-5


def described(name: str, rewrites: frozenset[str]) -> list[Part]:
    return LatentParts(latent_config(name), weights_of(latent_network(name)), rewrites).parts()


def normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_denoise(name: str, rewrites: frozenset[str], tiles: tuple[int, int], batch: int, run: Run) -> None:
    """Condition and predicted noise on a latent of so many strides, per item's own timestep."""
    config, network, parts = latent_config(name), latent_network(name), described(name, rewrites)
    assert config.unet is not None
    height, width = (config.unet.stride * count for count in tiles)
    known: Arrays = {"x": normal((batch, config.first_stage.z_channels, height, width), 1)}
    known["timestep"] = np.array([3.0, 987.0, 500.0][:batch], dtype=np.float32)
    cond = None
    with torch.inference_mode():
        if config.kind == "super-resolution":
            stride = config.first_stage.stride
            known["image"] = normal((batch, 3, height * stride, width * stride), 2).clip(-1, 1)
            draw = normal(known["x"].shape, 3)
            cond = network.latent_from_image(torch.from_numpy(known["image"]), torch.from_numpy(draw))
            known = run_parts(parts, ["encode"], known, run)
            known["cond"] = known["mean"] + known["deviation"] * draw
            assert_same(known["cond"], cond)
        expected = network.denoise(torch.from_numpy(known["x"]), cond, torch.from_numpy(known["timestep"]).long())
    known = run_parts(parts, ["tabulate", "condition", "denoise"], known, run)
    assert_same(known["noise"], expected)


def check_decode(
    name: str, rewrites: frozenset[str], latent: tuple[int, int], size: tuple[int, int], batch: int, run: Run, rows: int
) -> None:
    config, network = latent_config(name).first_stage, latent_network(name)
    z = normal((batch, config.z_channels, *latent), 4)
    with torch.inference_mode():
        expected = network.decode(torch.from_numpy(z), size)
    assert_same(decoded(described(name, rewrites), config, z, size, run, rows), expected)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", NAMES)
def test_each_rewrite_keeps_the_noise_and_the_picture(name: str, choice: str) -> None:
    check_denoise(name, CHOICES[choice], (1, 2), 2, run_in_torch)
    check_decode(name, CHOICES[choice], (5, 7), (13, 29), 2, run_in_torch, rows=5)


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(NAMES), tiles=st.tuples(SIDE, SIDE), batch=st.integers(1, 3))
def test_all_rewrites_keep_the_noise_at_any_size(name: str, tiles: tuple[int, int], batch: int) -> None:
    check_denoise(name, CHOICES["all"], tiles, batch, run_in_torch)


@settings(max_examples=10, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    latent=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    size=st.tuples(PIXELS, PIXELS),
    rows=st.integers(1, 97),
)
def test_all_rewrites_keep_the_picture_at_any_size(
    name: str, latent: tuple[int, int], size: tuple[int, int], rows: int
) -> None:
    check_decode(name, CHOICES["all"], latent, size, 1, run_in_torch, rows)


@pytest.mark.parametrize("choice", ["none", "all"])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_graphs_agree_with_the_published_network(name: str, choice: str) -> None:
    check_denoise(name, CHOICES[choice], (2, 1), 2, run_in_onnxruntime)
    check_decode(name, CHOICES[choice], (7, 5), (37, 23), 2, run_in_onnxruntime, rows=20)


@pytest.mark.parametrize("double_z", [True, False])
def test_an_encoder_without_posterior_has_no_deviation(double_z: bool) -> None:
    config = latent_config("latent_sr_tiny")
    config = dataclasses.replace(config, first_stage=dataclasses.replace(config.first_stage, double_z=double_z))
    network = LatentNetwork(config)
    fill_parameters(network)
    network.scale_factor.fill_(3.0)
    encode = next(
        part for part in LatentParts(config, weights_of(network), CHOICES["all"]).parts() if part.name == "encode"
    )
    image = normal((1, 3, 16, 24), 5)
    out = run_in_torch(encode, {"image": image})
    assert list(out) == [spec.name for spec in encode.outputs] == ["mean", "deviation"][: 1 + double_z]
    with torch.inference_mode():
        assert_same(out["mean"], network.latent_from_image(torch.from_numpy(image)))


@pytest.mark.parametrize("choice", ["none", "all"])
@pytest.mark.parametrize(("ensemble", "cell"), [(True, False), (False, True), (False, False)])
def test_decoder_options(ensemble: bool, cell: bool, choice: str) -> None:
    config = latent_config("latent_gen_tiny")
    first_stage = dataclasses.replace(
        config.first_stage, local_ensemble=ensemble, cell_decode=cell, hidden_list=(48, 64, 32)
    )
    config = dataclasses.replace(config, first_stage=first_stage)
    network = LatentNetwork(config)
    fill_parameters(network)
    parts = LatentParts(config, weights_of(network), CHOICES[choice]).parts()
    z = normal((1, first_stage.z_channels, 4, 6), 6)
    with torch.inference_mode():
        expected = network.decode(torch.from_numpy(z), (17, 11))
    assert_same(decoded(parts, first_stage, z, (17, 11), run_in_torch, rows=9), expected)


@pytest.mark.parametrize("name", NAMES)
def test_parts_take_what_earlier_parts_give(name: str) -> None:
    """With all rewrites, a generation model has neither encoder nor condition."""
    conditioned = ["encode", "condition"] if name == "latent_sr_tiny" else []
    parts = described(name, CHOICES["all"])
    assert [part.name for part in parts] == ["tabulate", *conditioned, "denoise", "decode", "query"]
    given_outside = {"timestep", "image", "cond", "x", "z"} | set(
        query_tables(latent_config(name).first_stage, (4, 4), (8, 8), slice(None))
    )
    specs = {spec.name: spec for part in parts for spec in part.outputs}
    for spec in (spec for part in parts for spec in part.inputs):
        assert spec.name in given_outside or specs[spec.name] == spec


@pytest.mark.parametrize("name", NAMES)
def test_unused_names_are_those_that_no_graph_uses(name: str) -> None:
    weights = weights_of(latent_network(name))
    used: set[str] = set()
    for part in described(name, CHOICES["none"]):
        ops = OnnxOps(part.weights, "group")
        part.forward(ops, {spec.name: spec.name for spec in part.inputs})
        used |= {key.removesuffix(".transposed") for key in ops.used}
    unused = unused_names(latent_config(name), weights)
    # scale_factor becomes a number, and the first layer of the implicit decoder is written in pieces.
    split = {f"first_stage_model.decoder.inr.imnet.layers.0.{kind}" for kind in ("weight", "bias")}
    assert set(weights) - used - {"scale_factor"} - split == set(unused)


@pytest.mark.parametrize("name", NAMES)
def test_unused_weights_are_carried_only_on_request(name: str) -> None:
    unused = unused_names(latent_config(name), weights_of(latent_network(name)))
    extra = {choice: sum((part.extra for part in described(name, CHOICES[choice])), ()) for choice in ("none", "all")}
    assert extra == {"none": unused, "all": ()}
    assert "betas" in unused


def test_a_first_stage_alone_is_refused() -> None:
    config = dataclasses.replace(latent_config("latent_sr_tiny"), kind="first-stage", unet=None)
    with pytest.raises(ConfigError, match="no diffusion U-Net to describe"):
        LatentParts(config, {}, frozenset())
