"""SR3 through the commands, as a person types them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from deploy.bundle.records import Preset
from deploy.cli.main import app
from deploy.errors import CheckpointError
from deploy.images.files import read_image, write_image
from tests.checkpoints import save_sr3, sr3_state
from tests.json_schema import checked


def run(arguments: str) -> str:
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output


def test_inspect_says_what_weights_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_sr3(tmp_path)
    told = " ".join(run("inspect sr3_tiny_gen.pth").split())
    assert "assumed norm_groups 32 is the authors' default; weights do not show it" in told
    assert "8 in training; other sizes are made as `infer` says" in told
    record = checked("inspect", run("inspect sr3_tiny_gen.pth --json"))
    assert record["configuration"]["norm_groups"] == {"value": 32, "source": "assumed"} and len(record["notes"]) == 1


def test_a_checkpoint_that_lost_a_part_is_told_so(tmp_path: Path) -> None:
    state = sr3_state()
    del state["denoise_fn.ups.5.conv.bias"]
    torch.save(state, tmp_path / "cut_gen.pth")
    with pytest.raises(CheckpointError, match=r"is SR3.* but lacks denoise_fn.ups.5.conv.bias"):
        app(["inspect", str(tmp_path / "cut_gen.pth")], standalone_mode=False)


@pytest.mark.slow
@pytest.mark.long
def test_a_checkpoint_becomes_an_int8_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 2)
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=2)})
    save_sr3(tmp_path)
    (tmp_path / "photographs").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    for number in range(3):
        write_image(np.roll(pixels, number, axis=0), tmp_path / "photographs" / f"{number}.png")
    write_image(pixels[:4, :6], tmp_path / "small.png")
    run("export sr3_tiny_gen.pth")
    run("verify sr3_tiny_gen.bundle --against sr3_tiny_gen.pth")
    chosen = "--crop 32 --pictures 2 --targets ort --ranges 1 --max-psnr-drop 50 --threads 1 --cache-dir cache"
    told = run(f"quantize sr3_tiny_gen.bundle --calib photographs {chosen}")
    assert "calibrating at 8 times, the one magnification of the training" in told
    run("infer small.png --scale 8 --precision int8 --engine onnxruntime-cpu --threads 1")
    assert read_image(tmp_path / "small_x8.png").pixels.shape == (32, 48, 3)
