"""A family is one folder and one line: one that the product has never seen goes through all of it."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy import Bundle, Upscaler, load_checkpoint
from deploy.bundle.records import Preset
from deploy.cli.main import app
from deploy.errors import ConfigError
from deploy.families.contract import Family
from deploy.families.table import FAMILIES, register
from deploy.images.files import write_image

SOURCE = Path(__file__).parent / "toy" / "family.py"


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Family]:
    """The toy, imported from a folder outside the repository and registered with one line."""
    path = Path(shutil.copy(SOURCE, tmp_path / "toy_family.py"))
    spec = importlib.util.spec_from_file_location("toy_family", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    register(module.TOY)
    yield module.TOY
    FAMILIES.remove(module.TOY)


def test_a_checkpoint_of_a_new_family_becomes_an_int8_picture(
    toy: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=3)})
    torch.manual_seed(0)
    torch.save(toy.build(toy.config(width=4)).state_dict(), "toy.pt")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for number in range(3):
        write_image(np.roll(pixels, number, axis=0), photographs / f"{number}.png")
    loaded = load_checkpoint("toy.pt")
    assert (loaded.family, loaded.config.width, loaded.sources["width"]) == ("toy", 4, "weights")

    quantize = "quantize toy.bundle --calib photographs --scale 2 --crop 32 --pictures 2 --targets ort"
    runs = (
        "export toy.pt",
        "verify toy.bundle --against toy.pt",
        f"{quantize} --max-psnr-drop 50 --threads 1 --cache-dir cache",
        "infer photographs/0.png --scale 2 --precision int8 --bundle toy.bundle",
        "inspect toy.bundle",
    )
    for arguments in runs:
        result = CliRunner().invoke(app, arguments.split())
        assert result.exit_code == 0, (arguments, result.output, result.exception)
    with Upscaler(Bundle.open("toy.bundle"), "onnxruntime-cpu", "int8", threads=1) as upscaler:
        assert upscaler.upscale(pixels, scale=2.0).shape == (96, 96, 3)


def test_a_name_is_given_to_one_family_only(toy: Family) -> None:
    with pytest.raises(ConfigError, match="There is a family called 'toy' already"):
        register(toy)
