"""How SR3's checkpoints and configuration files are recognised and read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.checkpoint.load import load_checkpoint, recognise
from deploy.errors import CheckpointError, ConfigError
from deploy.families.detection import Settings, Stored
from deploy.families.sr3 import detect as sr3
from deploy.families.sr3.config import PUBLISHED, Sr3Config
from deploy.sampling.schedule import NoiseSchedule
from tests.checkpoints import IDM_SCHEDULE, save_sr3
from tests.recordings import manifest
from tests.sr3_models import sr3_config


def stored(name: str, **changes: tuple[int, ...]) -> Stored:
    shapes = {tensor: shape for tensor, (shape, _) in manifest(name).items()} | changes
    return Stored(path=Path(f"{name}_gen.pth"), shapes=shapes, betas=IDM_SCHEDULE.betas.astype(np.float32))


def authors_file(unet: dict[str, Any], **diffusion: Any) -> str:
    """A configuration as the authors write them, with comments."""
    schedule = {"schedule": "linear", "n_timestep": 2000, "linear_start": 1e-6, "linear_end": 1e-2}
    model = {
        "which_model_G": "sr3",
        "unet": unet,
        "beta_schedule": {"train": schedule, "val": schedule},
        "diffusion": {"image_size": 128, "channels": 3, "conditional": True, **diffusion},
    }
    data = {"datasets": {"train": {"l_resolution": 16, "r_resolution": 128}}}
    return json.dumps({"model": model, **data}, indent=1).replace('"which_model_G"', '// a comment\n"which_model_G"')


@pytest.mark.parametrize("name", ["sr3_16_128", "sr3_64_512", "sr3_tiny"])
def test_shapes_alone_give_every_published_configuration(name: str) -> None:
    assert recognise(Path("x.pth"), stored(name).shapes).name == "sr3"
    found = sr3.detect(stored(name), [])
    assert found.config == sr3_config(name)
    assert (found.sources["norm_groups"], found.sources["channel_multiplier"]) == ("assumed", "weights")
    assert found.schedule == NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
    published = {"sr3_16_128": "16 to 128", "sr3_64_512": "64 to 512"}.get(name)
    whose = f"that of the published network {published}" if published else "the authors' default"
    assert found.notes[0].startswith(f"norm_groups {found.config.norm_groups} is {whose}; weights do not show it")
    if published:
        assert PUBLISHED[published] == found.config


def test_an_idm_is_none_and_one_that_lost_its_parts_is_still_told_so() -> None:
    shapes = {tensor: shape for tensor, (shape, _) in manifest("idm_tiny").items()}
    assert recognise(Path("x.pth"), shapes).name == "idm"
    del shapes["encoder.head.0.weight"]
    with pytest.raises(CheckpointError, match=r"nearest known family is IDM.* lacks encoder.head.0.weight"):
        recognise(Path("x.pth"), shapes)
    unet = {name: shape for name, shape in shapes.items() if name.startswith("denoise_fn.")}
    with pytest.raises(CheckpointError, match=r"nearest known family is IDM.* lacks encoder.head.0.weight"):
        recognise(Path("x.pth"), unet)


def test_the_unconditional_one_is_named_and_refused() -> None:
    with pytest.raises(CheckpointError, match=r"sr3_16_128_gen.pth holds an unconditional SR3, which makes pictures"):
        sr3.detect(stored("sr3_16_128", **{"denoise_fn.downs.0.weight": (64, 3, 3, 3)}), [])


def test_the_authors_file_gives_what_weights_do_not(tmp_path: Path) -> None:
    path = save_sr3(tmp_path)
    unet = {"in_channel": 6, "out_channel": 3, "inner_channel": 32, "channel_multiplier": [1, 2, 4, 8, 8]}
    unet |= {"attn_res": [16], "res_blocks": 1, "dropout": 0.2, "norm_groups": 16}
    config = tmp_path / "sr.json"
    config.write_text(authors_file(unet))
    loaded = load_checkpoint(path, config=config)
    assert (loaded.family, loaded.config.norm_groups, loaded.sources["norm_groups"]) == ("sr3", 16, "config")
    assert loaded.notes == () and loaded.scale_range == (8.0, 8.0) and loaded.sources["scale"] == "config"
    assert load_checkpoint(path, config={"norm_groups": 8}).config.norm_groups == 8
    config.write_text(authors_file({**unet, "res_blocks": 2}))
    with pytest.raises(ConfigError, match="says res_blocks is 2, the weights have 1"):
        load_checkpoint(path, config=config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 1.0}, r"the SR3 configuration is impossible: scale must be above 1, got 1.0"),
        ({"norm_groups": 48}, r"norm_groups 48 does not divide 64 channels"),
    ],
)
def test_an_impossible_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sr3Config(**changes)


def test_what_is_no_configuration_of_it() -> None:
    with pytest.raises(ConfigError, match=r"x\.json is no configuration of SR3: it has no section model.unet"):
        sr3.settings_from_mapping({"model": {}}, "x.json")
    assert isinstance(sr3.settings_from_mapping({"model": {"unet": {}}}, "x.json"), Settings)
