"""Small exported bundles with the weights of the recordings."""

from pathlib import Path

import torch

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm, save_sr3
from tests.latent_checkpoints import latent_state


def exported(name: str, folder: Path, config: dict[str, object] | None = None) -> Bundle:
    """The bundle of an IDM."""
    return export_bundle(load_checkpoint(save_idm(folder, name), config=config), folder / f"{name}.bundle")


def exported_sr3(folder: Path) -> Bundle:
    """The bundle of the smallest SR3 that was recorded."""
    return export_bundle(load_checkpoint(save_sr3(folder)), folder / "sr3_tiny.bundle")


def exported_latent(name: str, folder: Path, config: dict[str, object] | None = None) -> Bundle:
    """The bundle of a model of the latent family."""
    path = folder / f"{name}.ckpt"
    torch.save({"state_dict": latent_state(name), "epoch": 1}, path)
    return export_bundle(load_checkpoint(path, config=config), folder / f"{name}.bundle")
