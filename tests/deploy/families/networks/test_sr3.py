"""SR3 against everything that was recorded from its implementation.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py), below 1e-4 of the largest value. Wrong
groups, channels in another order or a level without attention show as 0.4 and more.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deploy.errors import SizeError
from deploy.families.pixel_unet.subject import PIXEL_VALUES
from deploy.families.sr3.condition import pixels_of_values
from deploy.families.sr3.network import Sr3Network
from deploy.images.resize_8_bits import resize_region_8_bits
from deploy.images.values import pixels_from_network
from deploy.sampling.schedule import NoiseSchedule
from tests.recordings import manifest, recorded_case, recorded_json, recording
from tests.rounding import assert_same_but_for_rounding as assert_same
from tests.sr3_models import sr3_config, sr3_network

NAMES = ("sr3_16_128", "sr3_64_512", "sr3_tiny")


def cases(name: str) -> list[str]:
    return sorted({key.partition("/")[0] for key in recording(name) if "/" in key})


def tensors(case: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.items()}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_equal_the_manifest(name: str) -> None:
    with torch.device("meta"):
        network = Sr3Network(sr3_config(name))
    buffers = set(recorded_json("manifests/buffers.json")[name])
    stored = {key: shape for key, (shape, _) in manifest(name).items() if key not in buffers}
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == stored


UNETS = [("sr3_tiny", "sr3_unet_tiny"), ("sr3_tiny", "sr3_unet_tiny_corrected")]
FULL = [("sr3_16_128", "sr3_unet_16_128"), ("sr3_64_512", "sr3_unet_64_512")]
SLOW = [pytest.param(*each, case, marks=pytest.mark.slow) for each in FULL for case in cases(each[1])]


@pytest.mark.parametrize(
    ("name", "file", "case"), [*((*each, case) for each in UNETS for case in cases(each[1])), *SLOW]
)
def test_condition_and_denoise(name: str, file: str, case: str) -> None:
    recorded = tensors(recorded_case(file, case))
    network, x = sr3_network(name), recorded["x_t"]
    cond = network.condition(recorded["lr_uint8_hwc"], (x.shape[2], x.shape[3]))
    assert torch.equal(cond, recorded["cond"])
    if case == "grid32":  # each level for the one picture
        levels = recorded["noise_level"]
        x, cond = (value.expand(len(levels), -1, -1, -1) for value in (x, cond))
        assert_same(network.denoise(x[:1], cond[:1], levels[:1]), recorded["out"][:1], network)
    out = network.denoise(x, cond, recorded["noise_level"])
    assert_same(out, recorded["out"], network)
    assert float((out - recorded["out"]).abs().max()) < 1e-4


@pytest.mark.parametrize("small_or_not", ["normal", "small"])
@pytest.mark.parametrize(
    ("case", "name", "row"),
    [
        ("res_block", "downs.3.res_block", 1),
        ("res_block_same_width", "downs.1.res_block", 1),
        ("attention", "mid.0.attn", None),
        ("block_with_attention", "downs.7", 2),
        ("final_block", "final_conv", None),
    ],
)
def test_module(case: str, name: str, row: int | None, small_or_not: str) -> None:
    recorded = tensors(recorded_case("sr3_modules", f"{case}_{small_or_not}"))
    embedding = torch.from_numpy(recorded_case("sr3_modules", "noise_embedding")["out"])
    module = sr3_network("sr3_tiny").get_submodule(f"denoise_fn.{name}")
    out = module(recorded["x"]) if row is None else module(recorded["x"], embedding[row])
    assert_same(out, recorded["out"], module)


def test_halving_and_doubling_and_a_batch_with_a_level_each() -> None:
    unet = sr3_network("sr3_tiny").denoise_fn
    for case, name in (("downsample", "downs.2"), ("upsample", "ups.2"), ("upsample_last", "ups.11")):
        recorded = tensors(recorded_case("sr3_modules", case))
        module, size = unet.get_submodule(name), tuple(recorded["out"].shape[2:])
        out = module(recorded["x"], size) if case.startswith("up") else module(recorded["x"])
        assert_same(out, recorded["out"], module)
    recorded = tensors(recorded_case("sr3_modules", "res_block_batch2"))
    block = unet.get_submodule("downs.3.res_block")
    assert_same(block(recorded["x"], recorded["embedding"][:, 0]), recorded["out"], block)


def test_noise_level_embedding() -> None:
    recorded = tensors(recorded_case("sr3_modules", "noise_embedding"))
    mlp = sr3_network("sr3_tiny").denoise_fn.noise_level_mlp
    torch.testing.assert_close(mlp[0](recorded["noise_level"]), recorded["encoding"][:, 0], rtol=0, atol=1e-6)
    assert_same(mlp(recorded["noise_level"]), recorded["out"][:, 0], mlp)


def test_every_layer_on_the_way() -> None:
    recorded = tensors(recorded_case("sr3_modules", "path"))
    unet = sr3_network("sr3_tiny").denoise_fn
    seen: dict[str, torch.Tensor] = {}
    handles = [
        unet.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        for name in recorded
        if name.startswith(("downs", "mid", "ups", "final"))
    ]
    unet(recorded["x_t"], recorded["cond"], recorded["noise_level"])
    for handle in handles:
        handle.remove()
    assert len(seen) == len(handles) == 27
    for name, out in seen.items():
        assert_same(out, recorded[name], unet)


@pytest.mark.parametrize("case", [case for case in cases("sr3_images") if case.startswith("upsample")])
def test_enlarging_is_that_of_the_recordings(case: str) -> None:
    recorded = recorded_case("sr3_images", case)
    small, large = (np.moveaxis(recorded[f"{name}_uint8_hwc"], -1, 0) for name in ("lr", "sr"))
    height, width = large.shape[1:]
    np.testing.assert_array_equal(resize_region_8_bits(small, (height, width), (0, height), (0, width)), large)


@pytest.mark.parametrize("case", [case for case in cases("sr3_images") if case.startswith("prepare")])
def test_the_pictures_of_the_official_preparation(case: str) -> None:
    recorded = recorded_case("sr3_images", case)
    small, large = (np.moveaxis(recorded[f"{name}_uint8_hwc"], -1, 0) for name in ("lr", "sr"))
    height, width = large.shape[1:]
    np.testing.assert_array_equal(resize_region_8_bits(small, (height, width), (0, height), (0, width)), large)


def test_levels_and_values() -> None:
    np.testing.assert_array_equal(PIXEL_VALUES.levels, recording("sr3_images")["pixels_to_network"])
    halves = recorded_case("sr3_images", "tensor2img")
    np.testing.assert_array_equal(pixels_from_network(halves["x"], PIXEL_VALUES), halves["out_uint8_hwc"])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pixels_of_values(PIXEL_VALUES.levels[every]), every)


@pytest.mark.parametrize(
    ("case", "arguments"),
    [
        ("linear_2000_1e-6_1e-2", ("linear", 2000, 1e-6, 1e-2)),
        ("linear_15_1e-6_1e-2", ("linear", 15, 1e-6, 1e-2)),
        ("linear_15_1e-4_0.5", ("linear", 15, 1e-4, 0.5)),
    ],
)
def test_schedules(case: str, arguments: tuple[str, int, float, float]) -> None:
    recorded = recorded_case("sr3_schedule", case)
    schedule = NoiseSchedule.from_kind(*arguments)
    np.testing.assert_array_equal(schedule.noise_levels, recorded["sqrt_alphas_cumprod_prev_f64"][1:])
    for name, table in schedule.training_tables().items():
        np.testing.assert_array_equal(table.astype(np.float32), recorded[name])


def test_what_is_no_8_bit_picture_is_refused() -> None:
    with pytest.raises(SizeError, match=r"made of 8-bit pictures .*, found float32 of shape \(8, 8, 3\)"):
        sr3_network("sr3_tiny").condition(np.zeros((8, 8, 3), np.float32), (16, 16))
