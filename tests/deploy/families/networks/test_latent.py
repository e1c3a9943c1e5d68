"""The latent family's networks: names, recorded conditions and predictions, sizes, loading.

The tolerance is what float32 sums of these lengths round to (tests/rounding.py).
"""

import numpy as np
import pytest
import torch

from deploy.errors import ConfigError, SizeError
from deploy.families.latent.first_stage import FirstStage
from deploy.families.latent.network import LatentNetwork
from tests.latent_models import LATENT_NAMES, ema_name, latent_config, latent_network
from tests.recordings import manifest, recorded_case, recorded_json, recording
from tests.rounding import assert_same_but_for_rounding as assert_same
from tests.rounding import rounding_of_embedding

CONDITIONS = ("lr8", "lr10", "lr_h6_w12_squashed")


def assert_same_noise(actual: torch.Tensor, expected: object, network: LatentNetwork, timesteps: torch.Tensor) -> None:
    """As predicted noise, which has also the error of the embedded timesteps in it."""
    unet = network.model.diffusion_model
    embedding = rounding_of_embedding(timesteps, unet.config.model_channels).square().mean().sqrt()
    assert_same(actual, expected, unet, before=float(embedding))


def tensors(case: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.items()}


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_state_dict_equals_the_manifest(name: str) -> None:
    config = latent_config(name)
    with torch.device("meta"):
        network = FirstStage(config.first_stage) if config.kind == "first-stage" else LatentNetwork(config)
    expected = {key: entry for key, entry in manifest(name).items() if not key.startswith("model_ema.")}
    found = {
        key: (tuple(value.shape), str(value.dtype).removeprefix("torch."))
        for key, value in network.state_dict().items()
    }
    assert list(found) == list(expected)
    assert found == expected
    buffers = {key for key in recorded_json("manifests/buffers.json")[name] if key in expected}
    assert {key for key, _ in network.named_buffers()} == buffers


@pytest.mark.parametrize("name", [name for name in LATENT_NAMES if name.startswith("latent_")])
def test_ema_names_are_those_of_the_manifest(name: str) -> None:
    with torch.device("meta"):
        network = LatentNetwork(latent_config(name))
    shadows = {ema_name(key) for key, _ in network.named_parameters() if key.startswith("model.")}
    stored = {key for key in manifest(name) if key.startswith("model_ema.")}
    assert shadows == stored - {"model_ema.decay", "model_ema.num_updates"}


@pytest.mark.parametrize(("name", "rates"), [("latent_sr_tiny", "0.0001_0.015"), ("latent_gen_tiny", "0.0015_0.0195")])
def test_schedule_buffers_equal_the_recorded_ones(name: str, rates: str) -> None:
    network = LatentNetwork(latent_config(name))
    for table, _ in network.named_buffers():
        if table != "scale_factor":
            stored = recording("latent_schedule")[f"sqrtlinear_{rates}/{table}"]
            # Computed in float64 and rounded once on both sides.
            np.testing.assert_allclose(network.get_buffer(table).numpy(), stored, rtol=2e-7, atol=0.0)


@pytest.mark.parametrize("case", CONDITIONS)
def test_squashed_condition_equals_the_recorded_one(case: str) -> None:
    arrays = tensors(recorded_case("latent_conditioning_tiny", case))
    network = latent_network("latent_sr_tiny")
    assert torch.equal(network.resized(arrays["lr"], squash=True), arrays["resized"])
    encoder = network.first_stage_model.encoder
    assert_same(network.first_stage_model.encode(arrays["resized"]), arrays["encoder_out"], encoder)
    condition = network.condition(arrays["lr"], arrays["posterior_noise"], squash=True)
    assert_same(condition, arrays["c_concat"], encoder)


def test_condition_without_posterior_equals_the_recorded_one() -> None:
    arrays = tensors(recorded_case("latent_conditioning_tiny", "lr16_no_posterior"))
    generator = latent_network("latent_gen_tiny")
    rows = torch.arange(64) // 4  # 16 to 64: whole repetitions
    image = arrays["lr"][:, :, rows][:, :, :, rows]
    latent = generator.latent_from_image(image) / generator.scale_factor * arrays["scale_factor"]
    assert_same(latent, arrays["c_concat"], generator.first_stage_model.encoder)


def test_condition_on_the_training_square_equals_the_squashed_one() -> None:
    arrays = tensors(recorded_case("latent_conditioning_tiny", "lr8"))
    network = latent_network("latent_sr_tiny")
    encoder = network.first_stage_model.encoder
    assert_same(network.condition(arrays["lr"], arrays["posterior_noise"]), arrays["c_concat"], encoder)
    mean = arrays["encoder_out"][:, :4] * network.scale_factor
    assert_same(network.condition(arrays["lr"]), mean, encoder)


def test_other_sizes_keep_their_shape_and_are_padded_by_replication() -> None:
    network = latent_network("latent_sr_tiny")
    lr = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 7, 11)).astype(np.float32))
    image = network.resized(lr)
    # Enlarged by 32 / 8 to 28 x 44; the latent (half of it) must divide by 4, hence 32 x 48.
    enlarged = np.repeat(np.repeat(lr.numpy(), 4, axis=2), 4, axis=3)
    expected = np.pad(enlarged, ((0, 0), (0, 0), (0, 4), (0, 4)), mode="edge")
    assert np.array_equal(image.numpy(), expected)
    condition = network.condition(lr)
    assert condition.shape == (1, 4, 16, 24)
    assert network.denoise(torch.zeros_like(condition), condition, torch.tensor([10])).shape == condition.shape


UNET_CASES = sorted({key.split("/")[0] for key in recording("latent_unet_tiny")})


@pytest.mark.parametrize("case", UNET_CASES)
def test_predicted_noise_equals_the_recorded_one(case: str) -> None:
    ema = case.endswith("_ema")
    inputs = tensors(recorded_case("latent_unet_tiny", case.removesuffix("_ema")))
    network = latent_network("latent_sr_tiny" if case.startswith("sr") else "latent_gen_tiny", ema=ema)
    out = network.denoise(inputs["x_t"], inputs.get("c_concat"), inputs["t"])
    assert_same_noise(out, recorded_case("latent_unet_tiny", case)["out"], network, inputs["t"])


def test_decode_undoes_the_scale_factor() -> None:
    arrays = tensors(recorded_case("latent_first_stage_tiny", "sr_decode_8"))
    network = latent_network("latent_sr_tiny")
    assert_same(network.decode(4.0 * arrays["z"], (13, 13)), arrays["out_13"], network.first_stage_model.decoder)


def test_loading_replaces_meta_tensors_without_initial_values() -> None:
    source = latent_network("latent_sr_tiny")
    with torch.device("meta"):
        network = LatentNetwork(latent_config("latent_sr_tiny"))
    assert all(parameter.is_meta for parameter in network.parameters())
    state = source.state_dict()
    network.load_state_dict(state, assign=True)
    for name, tensor in network.state_dict().items():
        assert tensor.data_ptr() == state[name].data_ptr(), name


def test_gradients_reach_every_parameter() -> None:
    network = LatentNetwork(latent_config("latent_sr_tiny")).train()
    with torch.enable_grad():
        cond = network.condition(torch.rand(1, 3, 8, 8), torch.zeros(1, 4, 16, 16))
        picture = network.decode(network.denoise(cond, cond, torch.tensor([5])), (9, 9))
        parameters = dict(network.named_parameters())
        gradients = torch.autograd.grad(picture.square().mean(), list(parameters.values()), allow_unused=True)
    reached = zip(parameters, gradients, strict=True)
    assert [name for name, gradient in reached if gradient is None] == []


def test_sizes_that_the_unet_cannot_halve_are_refused() -> None:
    z = torch.zeros(1, 4, 10, 12)
    with pytest.raises(SizeError, match="latent of 12x10: both sides must divide by 4"):
        latent_network("latent_sr_tiny").denoise(z, z, torch.tensor([1]))


def test_a_missing_or_superfluous_condition_is_refused() -> None:
    sr, gen = torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8)
    with pytest.raises(ConfigError, match="super-resolution model needs the condition"):
        latent_network("latent_sr_tiny").denoise(sr, None, torch.tensor([1]))
    with pytest.raises(ConfigError, match="generation model needs no condition"):
        latent_network("latent_gen_tiny").denoise(gen, gen, torch.tensor([1]))
    with pytest.raises(ConfigError, match="generation model has no condition"):
        latent_network("latent_gen_tiny").condition(gen)


def test_a_first_stage_has_no_diffusion() -> None:
    with pytest.raises(ConfigError, match="first-stage configuration has no diffusion U-Net"):
        LatentNetwork(latent_config("first_stage_sr_ffhq_128"))


@pytest.mark.slow
def test_full_ffhq_model_equals_the_recorded_one() -> None:
    name, file = "latent_sr_ffhq_16_128", "latent_sr_ffhq_full"
    network = latent_network(name)
    stage = network.first_stage_model
    for case in ("encode_40", "decode_8", "decode_32", "unet_8", "unet_16_batch2", "unet_32"):
        arrays = tensors(recorded_case(file, case))
        if case.startswith("encode"):
            maps = stage.encode(arrays["image"])
            assert_same(maps, arrays["encoder_out"], stage.encoder)
            assert_same(stage.latent(maps, arrays["posterior_noise"]), arrays["sample"], stage.encoder)
        elif case.startswith("decode"):
            for array in (key for key in arrays if key.startswith("out_")):
                side = int(array.removeprefix("out_"))
                assert_same(network.decode(arrays["z"], (side, side)), arrays[array], stage.decoder)
        else:
            out = network.denoise(arrays["x_t"], arrays["c_concat"], arrays["t"])
            assert_same_noise(out, arrays["out"], network, arrays["t"])
    features = stage.decoder_features(torch.from_numpy(recording(file)["decode_8/z"]))
    assert_same(features, recording(file)["decode_8/decoder_features"], stage.decoder)
    latent_network.cache_clear()  # 1.9 GB
