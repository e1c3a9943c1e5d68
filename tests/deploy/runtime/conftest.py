"""Small exported bundles with the weights of the recordings, made once."""

from pathlib import Path

import pytest
import torch

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm
from tests.latent_checkpoints import latent_state


def exported(name: str, folder: Path, config: dict[str, object] | None = None) -> Bundle:
    return export_bundle(load_checkpoint(save_idm(folder, name), config=config), folder / f"{name}.bundle")


@pytest.fixture(scope="session")
def idm_tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def idm_micro(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("micro"), {"norm_groups": 8, "image_size": 16})


def exported_latent(name: str, folder: Path, config: dict[str, object] | None = None) -> Bundle:
    path = folder / f"{name}.ckpt"
    torch.save({"state_dict": latent_state(name), "epoch": 1}, path)
    return export_bundle(load_checkpoint(path, config=config), folder / f"{name}.bundle")


@pytest.fixture(scope="session")
def latent_sr(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"lr_size": 8, "inp_size": 32, "image_size": 16, "unet.num_head_channels": 16}
    return exported_latent("latent_sr_tiny", tmp_path_factory.mktemp("latent_sr"), sizes)


@pytest.fixture(scope="session")
def latent_gen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    sizes = {"image_size": 16, "default_output_size": 64}
    return exported_latent("latent_gen_tiny", tmp_path_factory.mktemp("latent_gen"), sizes)
