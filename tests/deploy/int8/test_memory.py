"""Whether covariances fit is asked before anything is recorded, and answered with what would do."""

from pathlib import Path

import pytest

from calibration.observe.layers import Layer
from deploy.bundle import Bundle
from deploy.errors import SizeError
from deploy.int8.memory import bytes_for_covariances, calibrated_layers, refuse_too_little
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from deploy.picture.memory import bytes_from_text
from tests.deploy.int8.latent_decoders import tiny


def largest(layers: list[Layer]) -> int:
    return max(layer.geometry.covariance_bytes() for layer in layers)


def test_too_little_memory_is_refused_before_anything_is_recorded(
    micro: Bundle, photographs: Path, tmp_path: Path
) -> None:
    """Rounding to nearest takes no covariance, and goes on to record trajectories."""
    done: list[str] = []

    def interrupt(doing: str, _fraction: float) -> None:
        done.append(doing)
        raise KeyboardInterrupt

    def calibrate(rounding: str) -> None:
        settings = QuantizeSettings(scales=(2.0,), crop=16, pictures=1, rounding=rounding)
        places = Places(calibration=photographs, cache=tmp_path, max_memory=1 << 16, threads=1)
        quantize_bundle(micro, settings, places, say=lambda _: None, progress=interrupt)

    with pytest.raises(SizeError, match=r"the weights of \S+ needs .* for the covariance .*--max-memory \d+MiB.*near"):
        calibrate("second-order")
    assert done == []
    with pytest.raises(KeyboardInterrupt):
        calibrate("nearest")
    assert done[0].startswith("recording")


def test_what_the_message_asks_for_is_enough_and_not_much_too_much(micro: Bundle) -> None:
    layers = calibrated_layers(micro)
    with pytest.raises(SizeError) as refused:
        refuse_too_little(layers, largest(layers) - 1)
    (asked,) = (word for word in str(refused.value).split() if word.endswith("MiB,"))
    budget = bytes_from_text(asked.removesuffix(","))
    refuse_too_little(layers, bytes_for_covariances(budget))
    with pytest.raises(SizeError):
        refuse_too_little(layers, bytes_for_covariances(budget - (1 << 20)))


def test_a_latent_model_needs_what_its_decoder_needs(tmp_path: Path) -> None:
    layers = calibrated_layers(tiny("latent_sr_tiny", tmp_path))
    parts = {".".join(layer.module.split(".")[:3]) for layer in layers}
    assert {"first_stage_model.decoder.decoder", "first_stage_model.decoder.inr"} < parts
    assert any(part.startswith("model.diffusion_model") for part in parts)
