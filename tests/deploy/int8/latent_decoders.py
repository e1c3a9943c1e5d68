"""Tiny latent bundles, latents for them, and copies of them whose decoder is in int8."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.targets.table import DECODE, QUERY
from deploy.bundle import Bundle, BundleWriter
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.families.latent.model import LatentModel
from deploy.int8.storing.storing import write_decoder
from deploy.int8.trying.decoder import Decoder, decoder_alone
from tests.deploy.exported import exported_latent
from tests.deploy.quantizations import quantization

PARTS = {"ort": {DECODE, QUERY}, "openvino": {DECODE, QUERY}, "tensorrt": {DECODE}}
TARGETS = tuple(PARTS)
SIZES: dict[str, dict[str, object]] = {
    "latent_sr_tiny": {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16},
    "latent_gen_tiny": {"image_size": 16, "default_output_size": 64},
}


def tiny(name: str, folder: Path) -> Bundle:
    """A small latent bundle with the weights of the recordings."""
    return exported_latent(name, folder, SIZES[name])


def ignored(_doing: str, _fraction: float) -> None:
    """No progress is shown."""


def float_model(bundle: Bundle) -> LatentModel:
    return LatentModel(GraphSet(bundle, EngineChoice(threads=1)))


def latents_for(model: LatentModel, *, side: int = 8) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [rng.standard_normal((2, model.channels, side, side)).astype(np.float32) for _ in range(2)]


def with_decoder(bundle: Bundle, folder: Path, made: Decoder) -> Bundle:
    """A copy of the bundle with these decoder graphs and nothing else in int8."""
    copy = Bundle.open(shutil.copytree(bundle.path, folder / "copy.bundle"), verify="sizes")
    with BundleWriter.update(copy) as writer:
        decoders = write_decoder(writer, copy, {target: one.graphs for target, one in made.items()})
        return writer.commit(replace(copy.manifest, quantization=quantization(**decoder_alone(copy, decoders))))
