"""The latent family: super-resolution from pictures, generation from noise alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.images.files import read_image
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from deploy.int8.storing.only_int8 import without_float_denoiser
from deploy.int8.trying.comparison import float_upscaler, generated_by, int8_upscaler
from deploy.sampling.choices import Choices
from tests.deploy.exported import exported_latent

SETTINGS = QuantizeSettings(
    scales=(2.0,), crop=16, pictures=2, ranges=1, max_psnr_drop=9.0, float_share=0.0, targets=("ort",)
)
SIZES: dict[str, dict[str, object]] = {
    "latent_sr_tiny": {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16},
    "latent_gen_tiny": {"image_size": 16, "default_output_size": 64},
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    monkeypatch.setattr("deploy.int8.trying.trials.GENERATED", 1)
    # Latents of synthetic weights are noise, which no 8 bits keep to 45 dB.
    monkeypatch.setattr("deploy.int8.trying.decoder.LEAST_FIDELITY", 15.0)


def quantized(name: str, folder: Path, photographs: Path) -> Bundle:
    bundle = exported_latent(name, folder, SIZES[name])
    presets = {"quick": Preset(equation="ddim", steps=2)}
    with BundleWriter.update(bundle) as writer:
        bundle = writer.commit(replace(bundle.manifest, presets=presets, default_preset="quick"))
    places = Places(calibration=photographs, cache=folder / "cache", max_memory=1 << 30, threads=1)
    settings = SETTINGS
    return quantize_bundle(bundle, settings, places, say=lambda _: None, progress=lambda _doing, _fraction: None).bundle


def test_a_super_resolution_model_runs_in_int8(tmp_path: Path, photographs: Path) -> None:
    bundle = quantized("latent_sr_tiny", tmp_path, photographs)
    lr = read_image(photographs / "4.png").pixels[:8, :8]
    with float_upscaler(bundle, 1) as upscaler:
        exact = upscaler.upscale(lr, scale=2.0)
    with int8_upscaler(bundle, "ort", 1) as upscaler:
        coded = upscaler.upscale(lr, scale=2.0)
    assert 0 < np.abs(coded.astype(int) - exact).mean() < 8
    assert bundle.manifest.quantization is not None
    decoder = bundle.manifest.quantization.targets["ort"].decoder
    assert decoder is not None and set(decoder.graphs) == {"decode", "query"}
    with int8_upscaler(without_float_denoiser(bundle), "ort", 1) as upscaler:
        assert np.array_equal(upscaler.upscale(lr, scale=2.0), coded)


@pytest.mark.slow
def test_a_generation_model_is_calibrated_without_pictures(tmp_path: Path, photographs: Path) -> None:
    bundle = quantized("latent_gen_tiny", tmp_path, photographs)
    assert bundle.manifest.calibration_images == {}
    with float_upscaler(bundle, 1) as upscaler:
        (exact,) = generated_by(upscaler, 1, Choices())
    with int8_upscaler(bundle, "ort", 1) as upscaler:
        (coded,) = generated_by(upscaler, 1, Choices())
        told: list[str] = []
        upscaler.generate(choices=Choices(equation="ddpm"), notice=told.append)
    assert 0 < np.abs(coded.astype(int) - exact).mean() < 8
    assert [line.split(";")[0] for line in told] == ["int8: calibrated with ddim, not ddpm"]
