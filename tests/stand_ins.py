"""Small stand-ins for what a reader has: a checkpoint, its bundle in float and int8, photographs, originals."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import BundleWriter
from deploy.bundle.records import Preset
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from deploy.images.files import write_image
from deploy.int8.pipeline import quantize_bundle
from deploy.int8.settings import Places, QuantizeSettings
from tests.checkpoints import save_idm

SETTINGS = QuantizeSettings(
    scales=(2.0,), crop=16, pictures=2, ranges=2, max_psnr_drop=9.0, min_fidelity=0.0, float_share=0.0
)
PRESETS = {
    "draft": Preset(equation="ddim", steps=2),
    "balanced": Preset(equation="ddim", steps=3),
    "best": Preset(equation="ddim", steps=4),
}
"""So that tests take seconds; a bundle's own have 10 to 50 steps."""


def make_stand_ins(folder: Path, *, int8: bool) -> Path:
    """`folder` has ckpt.pt, photo.png, photos/, originals/ and ckpt.bundle, with int8 for every target or without."""
    for place, side in (("photos", 8), ("originals", 32)):
        (folder / place).mkdir()
        for number in range(2):
            write_image(_picture(side, number), folder / place / f"{number}.png")
    shutil.copy(folder / "photos" / "0.png", folder / "photo.png")
    save_idm(folder).rename(folder / "ckpt.pt")
    checkpoint = load_checkpoint(folder / "ckpt.pt")
    exported = export_bundle(checkpoint, folder / "ckpt.bundle", samples=[folder / "photo.png"])
    with BundleWriter.update(exported) as writer:
        bundle = writer.commit(replace(exported.manifest, presets=PRESETS, default_preset="balanced"))
    if int8:
        places = Places(calibration=folder / "originals", cache=folder / "cache", max_memory=1 << 30, threads=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
            quantize_bundle(bundle, SETTINGS, places, say=lambda _: None, progress=lambda *_: None)
        shutil.rmtree(folder / "cache")
    return folder


def _picture(side: int, number: int) -> np.ndarray:
    """A few large squares of one colour: no noise, so that metrics have something to keep."""
    random = np.random.default_rng(number)
    return np.kron(random.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((side // 4, side // 4, 1), np.uint8))
