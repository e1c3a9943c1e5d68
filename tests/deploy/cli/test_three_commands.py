"""The three commands that the tool exists for, as typed, in a folder that holds nothing but a checkpoint."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from deploy.engine.chosen import chosen_engine
from deploy.images.files import read_image
from tests.checkpoints import save_idm, save_latent

COMMANDS = ("quantize ckpt.pt", "build-engine", "infer --scale 12")
ENTRY = [sys.executable, "-c", "from deploy.cli.main import main; main()"]


def tiny_idm(folder: Path) -> Path:
    """Not the smallest: that one attends to half of its output's pixels, and 768x768 would take it 20 minutes."""
    return save_idm(folder, "idm_tiny")


@pytest.mark.slow
@pytest.mark.parametrize("save", [pytest.param(tiny_idm, marks=pytest.mark.long), save_latent])
def test_from_a_checkpoint_to_a_picture(save: Callable[[Path], Path], tmp_path: Path) -> None:
    """A small checkpoint of each family, with every setting at its default."""
    place, cache = tmp_path / "fresh", tmp_path / "cache"
    place.mkdir()
    save(place).rename(place / "ckpt.pt")
    for command in COMMANDS:
        environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache)}
        done = subprocess.run(
            [*ENTRY, *command.split()], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert sorted(path.name for path in place.iterdir()) == [
        "chelsea_x12.png",
        "ckpt-report",
        "ckpt.bundle",
        "ckpt.pt",
    ]
    picture = read_image(place / "chelsea_x12.png")
    assert picture.size == (768, 768) and picture.pixels.std() > 1
    chosen = chosen_engine(Bundle.open(place / "ckpt.bundle"), cache / "idm-deploy")
    assert chosen is not None and f"{chosen.backend} {chosen.precision}" in done.stderr
