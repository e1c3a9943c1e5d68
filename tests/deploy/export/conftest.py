"""One small exported bundle for all tests of this folder."""

from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.checkpoint.load import Checkpoint, load_checkpoint
from deploy.export.export import export_bundle
from tests.checkpoints import save_idm


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("checkpoint")
    config = {"norm_groups": 8, "image_size": 16}
    return load_checkpoint(save_idm(folder), config=config)


@pytest.fixture(scope="package")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place: Path = tmp_path_factory.mktemp("bundles") / "micro.bundle"
    return export_bundle(checkpoint, place)
