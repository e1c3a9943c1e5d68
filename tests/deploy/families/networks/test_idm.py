"""IDM against everything that was recorded from the official implementation.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py): 2e-6 of the largest value for one
attention, 5e-5 for the whole of idm_tiny. A wrong pixel, coordinate or level shows as 1e-2 and more.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.layers import ImplicitLayer
from deploy.families.idm.network import IdmNetwork, unused_shapes
from deploy.families.pixel_unet.layout import up_layers
from tests.idm_models import filled, idm_config, idm_network
from tests.recordings import manifest, recorded_case, recorded_json, recording
from tests.rounding import assert_same_but_for_rounding as assert_same

FULL = "idm_ffhq_16_128"


def tensors(case: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.items()}


def cases(name: str) -> list[str]:
    return sorted({key.partition("/")[0] for key in recording(name)})


def per_item(scaler: torch.Tensor, batch: int) -> torch.Tensor:
    """Recorded scalers have shape (1,), shared by the batch, or (B, 1)."""
    return scaler.reshape(-1, 1).expand(batch, 1)


@pytest.mark.parametrize("name", ["idm_micro", "idm_tiny", FULL])
def test_names_and_shapes_equal_the_manifest(name: str) -> None:
    config = idm_config(name)
    with torch.device("meta"):
        network = IdmNetwork(config)
    live = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    unused = unused_shapes(config)
    buffers = set(recorded_json("manifests/buffers.json")[name])
    stored = {key: shape for key, (shape, _) in manifest(name).items() if key not in buffers}
    assert not live.keys() & unused.keys()
    assert live | unused == stored
    assert {dtype for _, dtype in manifest(name).values()} == {"float32"}
    assert {str(value.dtype) for value in network.state_dict().values()} == {"torch.float32"}


def test_a_seventh_of_the_published_parameters_is_unused() -> None:
    unused = sum(int(np.prod(shape)) for shape in unused_shapes(IdmConfig()).values())
    with torch.device("meta"):
        live = sum(value.numel() for value in IdmNetwork(IdmConfig()).state_dict().values())
    assert round((live + unused) / 1e6, 1) == 116.6
    assert 0.13 < unused / (live + unused) < 0.15


@pytest.mark.parametrize("key", [key for key in recording("idm_encoder") if "/out_" in key])
def test_encoder(key: str) -> None:
    case, _, out = key.partition("/")
    height, width = (int(side) for side in out.removeprefix("out_").split("x"))
    lr = torch.from_numpy(recorded_case("idm_encoder", case)["lr"])
    # The encoder's weights are the same in all configurations.
    network = idm_network("idm_micro")
    assert_same(network.encode(lr, (height, width)), recording("idm_encoder")[key], network.encoder)


UNET_CASES = [
    (name, file, case)
    for name, file in (
        ("idm_micro", "idm_unet_micro"),
        ("idm_tiny", "idm_unet_tiny"),
        ("idm_tiny", "idm_unet_tiny_nonsquare_corrected"),
    )
    for case in cases(file)
    if case != "grid32"
]
FULL_CASES = [
    pytest.param(FULL, "idm_unet_ffhq_16_128", case, marks=pytest.mark.slow) for case in cases("idm_unet_ffhq_16_128")
]


@pytest.mark.parametrize(("name", "file", "case"), [*UNET_CASES, *FULL_CASES])
def test_encode_and_denoise(name: str, file: str, case: str) -> None:
    recorded = tensors(recorded_case(file, case))
    network, x = idm_network(name), recorded["x_t"]
    height, width = x.shape[2:]
    assert_same(network.encode(recorded["lr"], (height, width)), recorded["cond"], network.encoder)
    scaler = per_item(recorded["scaler"], len(x))
    out = network.denoise(x, recorded["cond"], scaler, recorded["noise_level"].reshape(-1, 1))
    assert_same(out, recorded["out"], network.denoise_fn)


def test_every_scaler_with_every_noise_level() -> None:
    recorded = tensors(recorded_case("idm_unet_tiny", "grid32"))
    scalers, levels = recorded["scaler"], recorded["noise_level"]
    # One batch of all nine pairs: items of a batch are independent, which the official loop never used.
    pairs = torch.cartesian_prod(scalers, levels)
    x, cond = (recorded[key].expand(len(pairs), -1, -1, -1) for key in ("x_t", "cond"))
    network = idm_network("idm_tiny")
    out = network.denoise(x, cond, pairs[:, :1], pairs[:, 1:])
    assert_same(out.reshape(recorded["out"].shape), recorded["out"], network.denoise_fn)


def test_unet_of_the_implicit_layers_recording() -> None:
    recorded = tensors(recorded_case("idm_implicit_layers", "unet"))
    scaler = per_item(recorded["scaler"], 1)
    network = idm_network("idm_tiny")
    out = network.denoise(recorded["x_t"], recorded["cond"], scaler, recorded["noise_level"])
    assert_same(out, recorded["out"], network.denoise_fn)


@pytest.mark.parametrize("case", ["ups.2", "ups.5", "ups.8", "ups.11", "direct_rect", "direct_small_scales"])
def test_implicit_layer(case: str) -> None:
    recorded = tensors(recorded_case("idm_implicit_layers", case))
    layer = idm_network("idm_tiny").get_submodule(f"denoise_fn.{case if case.startswith('ups') else 'ups.11'}")
    assert isinstance(layer, ImplicitLayer)
    height, width = recorded["out_size"].tolist()
    out = layer(recorded["x"], recorded["scale1"][None], recorded["scale2"][None], recorded["shift"], (height, width))
    # Recorded as (B, H*W, C), row major.
    assert_same(out.flatten(2).transpose(1, 2), recorded["out_flat"], layer)


def test_implicit_layers_are_numbered_as_recorded() -> None:
    layers = {layer.name: layer.channels_in for layer in up_layers(idm_config("idm_tiny")) if layer.kind == "doubling"}
    assert layers == {"ups.2": 256, "ups.5": 256, "ups.8": 128, "ups.11": 64}


MODULES = {
    "attention": "mid.0.attn",
    "final_block": "final_conv",
    "cond_down": "conv_body_down.1",
    "cond_shift": "condition_shift.2",
    "downsample": "downs.2",
    "cond_first": "conv_body_first",
}


@pytest.mark.parametrize(
    "case", [case for case in cases("idm_modules") if case.removesuffix("_normal").removesuffix("_small") in MODULES]
)
def test_module(case: str) -> None:
    recorded = tensors(recorded_case("idm_modules", case))
    name = MODULES[case.removesuffix("_normal").removesuffix("_small")]
    module = idm_network("idm_tiny").get_submodule(f"denoise_fn.{name}")
    assert_same(module(recorded["x"]), recorded["out"], module)


def test_noise_level_embedding_and_what_a_residual_block_makes_of_it() -> None:
    unet = idm_network("idm_tiny").denoise_fn
    embedding = tensors(recorded_case("idm_modules", "noise_embedding"))
    out = unet.noise_level_mlp(embedding["noise_level"])
    assert_same(out, embedding["out"][:, 0], unet.noise_level_mlp)
    for case in ("res_block_normal", "res_block_small"):
        recorded = tensors(recorded_case("idm_modules", case))
        block = unet.get_submodule("downs.3.res_block")
        assert_same(block(recorded["x"], embedding["out"][1]), recorded["out"], block)


def test_scales_from_the_scaling_factor() -> None:
    unet = idm_network("idm_tiny").denoise_fn
    recorded = tensors(recorded_case("idm_modules", "cond_scale"))
    for scales, out in ((unet.condition_scale1["2"], "out1"), (unet.condition_scale2["2"], "out2")):
        assert_same(scales(recorded["scaler"]), recorded[out], scales)


def test_a_batch_equals_its_items() -> None:
    recorded = tensors(recorded_case("idm_unet_tiny", "sq40_batch2_scaler_per_item"))
    network, levels = idm_network("idm_tiny"), recorded["noise_level"].reshape(-1, 1)
    arguments = (recorded["x_t"], recorded["cond"], recorded["scaler"], levels)
    alone = torch.cat([network.denoise(*(argument[i : i + 1] for argument in arguments)) for i in range(2)])
    assert_same(network.denoise(*arguments), alone, network.denoise_fn)


def test_one_level_has_no_implicit_layer() -> None:
    config = idm_config("idm_micro", channel_multiplier=(1,), attn_res=())
    network = filled(config)
    assert not [layer for layer in up_layers(config) if layer.kind == "doubling"]
    noise = torch.zeros(1, 3, 7, 9)
    assert network.denoise(noise, noise, torch.ones(1, 1), torch.ones(1, 1)).shape == noise.shape
