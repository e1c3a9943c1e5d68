"""A tiny exported bundle and a few small calibration pictures."""

from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import export_bundle
from deploy.images.files import write_image
from tests.checkpoints import save_idm

CONFIG: dict[str, object] = {"norm_groups": 8, "image_size": 16}


@pytest.fixture(scope="session")
def micro_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_idm(tmp_path_factory.mktemp("checkpoint"), "idm_micro")


@pytest.fixture
def micro(micro_checkpoint: Path, tmp_path: Path) -> Bundle:
    """A bundle of its own for every test, which may change it."""
    return export_bundle(load_checkpoint(micro_checkpoint, config=CONFIG), tmp_path / "micro.bundle")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures with something in them."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(3)
    for number in range(5):
        rough = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        write_image(np.kron(rough, np.ones((4, 4, 1), np.uint8)), folder / f"{number}.png")
    return folder
