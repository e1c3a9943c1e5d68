"""LDM-SR through the commands, from a folder and from CompVis' file: what is recognised, refused and said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from deploy import Bundle, load_checkpoint
from deploy.bundle.records import Preset
from deploy.cli.main import app
from deploy.errors import CheckpointError, ConfigError
from deploy.families.detection import Stored
from deploy.families.ldm.config import config_from_values
from deploy.families.ldm.detect import detect, settings_from_mapping
from deploy.families.ldm.network import LdmNetwork
from deploy.images.files import read_image, write_image
from deploy.sampling.schedule import NoiseSchedule
from tests.ldm_models import FULL, SMALL, networks, our_network, save_compvis, save_folder


def runs(arguments: str) -> str:
    """What the command says, all of it."""
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output


@pytest.mark.slow
def test_a_folder_becomes_an_int8_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deploy.int8.recording.trajectories.PLAIN_STEPS", 3)
    monkeypatch.setattr("deploy.export.export.PLAIN_PRESETS", {"balanced": Preset(equation="ddim", steps=3)})
    folder = save_folder(tmp_path / "ldm-sr.v1", *networks(SMALL))
    save_compvis(tmp_path / "other.ckpt", load_checkpoint(folder).network)
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 72, 3), dtype=np.uint8)
    for number in range(3):
        write_image(np.roll(pixels, number, axis=0), photographs / f"{number}.png")
    write_image(pixels[:18, :22], tmp_path / "odd.png")

    assert "diffusers folder" in runs("inspect ldm-sr.v1") and "4 in training" in runs("inspect ldm-sr.v1")
    runs("export ldm-sr.v1")
    runs("verify ldm-sr.v1.bundle --against ldm-sr.v1")
    quantize = "quantize ldm-sr.v1 --calib photographs --scale 4 --crop 64 --pictures 2 --targets ort"
    said = runs(f"{quantize} --max-psnr-drop 90 --threads 1 --cache-dir cache")
    assert "was exported from this checkpoint already" in said and "decoder, ort:" in said
    bundle = Bundle.open("ldm-sr.v1.bundle")
    assert bundle.manifest.quantization is not None
    enlarge = "infer odd.png --bundle ldm-sr.v1.bundle --precision int8 --threads 1"
    assert "makes 4x only" not in runs(f"{enlarge} --scale 4 -o four.png")
    assert "decoded at 88x72, then resized to 66x54 with the antialiased filter" in runs(
        f"{enlarge} --scale 3 -o three.png"
    )
    runs(f"{enlarge} --scale 4 --start 0.5 --consistency 1 -o started.png")
    shapes = [read_image(Path(name)).pixels.shape for name in ("four.png", "three.png", "started.png")]
    assert shapes == [(72, 88, 3), (54, 66, 3), (72, 88, 3)]
    timing = "bench ldm-sr.v1.bundle --part step --part picture --size 64x96 --rounds 1 --engine onnxruntime-cpu"
    said = runs(f"{timing} --threads 1")
    assert "24x16 to 96x64" in said or "16x24 to 64x96" in said
    assert "diffusers, eager, DDIM-100" in said
    result = CliRunner().invoke(app, ["verify", "ldm-sr.v1.bundle", "--against", "other.ckpt"])
    assert "was exported from another file than other.ckpt" in str(result.exception)


def test_models_of_the_same_authors_for_other_tasks_are_refused(tmp_path: Path) -> None:
    network = our_network(SMALL, *networks(SMALL))
    first = network.model.diffusion_model.input_blocks[0][0]
    for channels, told in ((3, "makes pictures from noise"), (7, "is conditioned on something else")):
        first.weight = torch.nn.Parameter(torch.zeros(16, channels, 3, 3), requires_grad=False)
        path = save_compvis(tmp_path / f"{channels}.ckpt", network)
        with pytest.raises(CheckpointError, match=f"{told}: its U-Net takes {channels} channels for a latent of 3"):
            load_checkpoint(path)


def test_configurations_that_fit_nothing_are_refused() -> None:
    values = {
        "unet.image_size": 16,
        **{f"unet.{name}": getattr(SMALL.unet, name) for name in ("in_channels", "out_channels", "model_channels")},
    }
    with pytest.raises(ConfigError, match=r"lacks unet\.attention_resolutions, unet\.num_res_blocks"):
        config_from_values(values)
    with pytest.raises(ConfigError, match="has no first stage with n_embed and ddconfig"):
        settings_from_mapping({"model": {"params": {}}}, "other.yaml")


PUBLISHED_YAML = """
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.0015
    linear_end: 0.0155
    timesteps: 1000
    first_stage_key: image
    image_size: 64
    channels: 3
    unet_config:
      params: {image_size: 64, in_channels: 6, out_channels: 3, model_channels: 160, attention_resolutions: [16, 8],
        num_res_blocks: 2, channel_mult: [1, 2, 2, 4], num_head_channels: 32}
    first_stage_config:
      params:
        embed_dim: 3
        n_embed: 8192
        ddconfig: {double_z: false, z_channels: 3, resolution: 256, in_channels: 3, out_ch: 3, ch: 128,
          ch_mult: [1, 2, 4], num_res_blocks: 2, attn_resolutions: [], dropout: 0.0}
    cond_stage_config: {target: torch.nn.Identity}
"""
"""The values of CompVis' models/ldm/bsr_sr/config.yaml."""


def test_the_published_configuration_follows_from_the_shapes(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in LdmNetwork(FULL).state_dict().items()}
    found = detect(Stored(path=tmp_path / "model.ckpt", shapes=shapes), [])
    assert found.config == FULL and found.sources["unet.num_head_channels"] == "assumed"
    assert found.schedule == NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0015, 0.0155)
    settings = settings_from_mapping(yaml.safe_load(PUBLISHED_YAML), "config.yaml")
    given = detect(Stored(path=tmp_path / "model.ckpt", shapes=shapes), [settings])
    assert given.config == replace(FULL, unet=replace(FULL.unet, attention_resolutions=(16, 8)))  # 16 is of no level
    assert given.schedule == found.schedule and given.sources["unet.num_head_channels"] == "config"
