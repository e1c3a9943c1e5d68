"""Small exported bundles with the weights of the recordings, made once."""

from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.checkpoint import load_checkpoint
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm


def exported(name: str, folder: Path, config: dict[str, object] | None = None) -> Bundle:
    return export_bundle(load_checkpoint(save_idm(folder, name), config=config), folder / f"{name}.bundle")


@pytest.fixture(scope="session")
def idm_tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def idm_micro(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported("idm_micro", tmp_path_factory.mktemp("micro"), {"norm_groups": 8, "image_size": 16})
