"""A tiny bundle that was really quantized, in seconds: two ranges, three targets, three steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.records import Preset
from deploy.images.files import write_image
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from tests.deploy.exported import exported
from tests.deploy.quantizations import HELD_OUT

SETTINGS = QuantizeSettings(
    scales=(2.0,), crop=16, pictures=2, ranges=2, max_psnr_drop=9.0, min_fidelity=0.0, float_share=0.0
)


def quantized_micro(folder: Path) -> Bundle:
    """The smallest IDM in int8 for every target; what it lost in held-out pictures is not known."""
    bundle = exported("idm_micro", folder, {"norm_groups": 8, "image_size": 16})
    presets = {"quick": Preset(equation="ddim", steps=3)}
    with BundleWriter.update(bundle) as writer:
        short = writer.commit(replace(bundle.manifest, presets=presets, default_preset="quick"))
    random = np.random.default_rng(3)
    (folder / "photographs").mkdir()
    for number in range(2):
        rough = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        write_image(np.kron(rough, np.ones((4, 4, 1), np.uint8)), folder / "photographs" / f"{number}.png")
    places = Places(calibration=folder / "photographs", cache=folder / "cache", max_memory=1 << 30, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
        return quantize_bundle(short, SETTINGS, places, say=lambda _: None, progress=lambda *_: None).bundle


def with_held_out(bundle: Bundle, figures: dict[str, dict[str, float]]) -> Bundle:
    """The same with what `quantize` would have measured per target."""
    quantization = bundle.manifest.quantization
    assert quantization is not None
    targets = {
        name: changed(target, held_out=changed(HELD_OUT, **figures[name]) if name in figures else target.held_out)
        for name, target in quantization.targets.items()
    }
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, quantization=quantization.with_targets(targets)))
