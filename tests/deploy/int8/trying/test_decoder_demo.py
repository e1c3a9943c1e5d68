"""The decoder of a latent model that was really trained, in int8, on pictures it was not calibrated with."""

from pathlib import Path

import numpy as np
import pytest

from calibration.lanes import lanes_for
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from deploy.families.latent.model import LatentModel
from deploy.int8.recording.pictures import CalibrationPicture
from deploy.int8.recording.trajectories import CalibrationPlans, Trajectories, groups_of_pictures
from deploy.int8.settings import QuantizeSettings
from deploy.int8.trying.comparison import int8_upscaler
from deploy.int8.trying.decoder import decoded, quantized_decoder
from deploy.int8.trying.drafts import drafted
from deploy.measure.evaluation.originals import read_originals
from deploy.measure.metrics import fidelity
from deploy.packaged.places import CALIBRATION_IMAGES, EVALUATION_IMAGES, LATENT_CHECKPOINT
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.deploy.int8.latent_decoders import PARTS, TARGETS, ignored, with_decoder


@pytest.mark.slow
def test_the_decoder_of_the_demo_model_keeps_held_out_pictures(tmp_path: Path) -> None:
    """Calibrated on latents of eight calibration pictures; 53 dB and more were seen on others, 45 are demanded."""
    bundle = export_bundle(load_checkpoint(LATENT_CHECKPOINT), tmp_path / "demo.bundle")
    with Upscaler(bundle, "onnxruntime-cpu", "fp32") as upscaler, drafted(bundle, tmp_path, (0.5,)) as draft:
        seen, held_out = (
            sampled_latents(upscaler, pictures, tmp_path / str(number))
            for number, pictures in enumerate((CALIBRATION_IMAGES, EVALUATION_IMAGES))
        )
        model = upscaler.session.model
        assert isinstance(model, LatentModel)
        made = quantized_decoder(
            model, draft, seen, QuantizeSettings(), memory_bytes=1 << 30, threads=None, say=print, progress=ignored
        )
        stored = with_decoder(bundle, tmp_path, made)
        latents = [latent[index : index + 1] for latent in held_out for index in range(latent.shape[0])]
        exact = [decoded(model, latent, (128, 128)) for latent in latents]
    for target in TARGETS:
        assert set(made[target].graphs) == PARTS[target]
        with int8_upscaler(stored, target) as upscaler:
            assert isinstance(upscaler.session.model, LatentModel)
            coded = [decoded(upscaler.session.model, latent, (128, 128)) for latent in latents]
        decibels = [fidelity(a, b) for a, b in zip(exact, coded, strict=True)]
        assert min(decibels) > 45, target
        assert np.mean(decibels) > 50, target


def sampled_latents(upscaler: Upscaler, folder: Path, scratch: Path) -> list[np.ndarray]:
    """Where `draft` ends for eight pictures of a folder, 32 to 128."""
    scratch.mkdir()
    originals = read_originals(folder, 4.0)
    chosen = originals[:: max(1, len(originals) // 8)][:8]
    pictures = [CalibrationPicture(original=one, scale=4.0, sha256="") for one in chosen]
    sampling = upscaler.sampling(Choices(preset="draft"))
    plan = upscaler.session.plan(sampling)
    levels = tuple(sorted(row.noise_level for row in plan.rows))
    plans = CalibrationPlans(samplings=(sampling,), plans=(plan,), levels=levels)
    trajectories = Trajectories(upscaler.session, groups_of_pictures(pictures), plans, scratch, seed=0)
    trajectories.record(lanes_for(1), ignored)
    return [latent for _, latent in trajectories.finals()]
