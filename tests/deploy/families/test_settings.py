"""What the authors' configuration files say, as `load_checkpoint(config=...)` understands them."""

from pathlib import Path
from typing import Any

import pytest

from deploy.checkpoint.load import metadata_for
from deploy.checkpoint.settings import METADATA_KEY, read_config, settings_of
from deploy.errors import ConfigError
from deploy.families.contract import mapping_of
from deploy.families.detection import Settings
from deploy.families.idm.family import IDM as idm  # noqa: N811
from deploy.families.latent.family import LATENT as latent  # noqa: N811
from deploy.sampling.schedule import NoiseSchedule
from tests.idm_models import idm_config
from tests.latent_models import latent_config

# In the layout of IDM's files, with their comments; `dataroot` shows what the cut at // does to an address.
IDM_FILE = """{
    "name": "micro", // which run
    "datasets": {
        "train": {
            "dataroot": "pictures", // "https://example.org/pictures",
            "l_resolution": 8, // low resolution
            "r_resolution": 32
        }
    },
    "model": {
        "unet": {
            "in_channel": 6,
            "out_channel": 3,
            "inner_channel": 16,
            "norm_groups": 8,
            "channel_multiplier": [1, 2, 2],
            "attn_res": [8],
            "res_blocks": 1,
            "dropout": 0.2 // of the training
        },
        "beta_schedule": {
            "train": {"schedule": "linear", "n_timestep": 2000, "linear_start": 1e-6, "linear_end": 1e-2},
            "val": {"schedule": "linear", "n_timestep": 100, "linear_start": 1e-4, "linear_end": 5e-2}
        },
        "diffusion": {"image_size": 16, "channels": 3}
    }
}
"""
# In the layout of the latent family's files.
LATENT_FILE = """
model:
  target: ldm.models.diffusion.ddpm.SRDiffusion
  params:
    linear_start: 1e-4  # no point: YAML takes this for text
    linear_end: 0.015
    timesteps: 1000
    image_size: 16
    channels: 4
    inp_size: 32
    default_output_size: 32
    c_encode: True
    conditioning_key: concat
    scale_by_std: True
    scale_factor: 0.18215
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 16
        in_channels: 8
        out_channels: 4
        model_channels: 32
        attention_resolutions: [2, 1]
        num_res_blocks: 1
        channel_mult: [1, 2, 2]
        num_head_channels: 16
    first_stage_config:
      params:
        ckpt_path:
        ddconfig:
          double_z: True
          z_channels: 4
          resolution: 32
          in_channels: 3
          out_ch: 3
          ch: 32
          ch_mult: [1, 2]
          num_res_blocks: 1
          attn_resolutions: [16]
          dropout: 0.0
        liifconfig:
          hidden_list: [48, 64, 32]
          cell_decode: True
          local_ensemble: True
data:
  params:
    train:
      params:
        size: 32
        lr_size: 8
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def settings(family: Any, config: Any, metadata: dict[str, str] | None = None) -> list[Settings]:
    return settings_of(family, config, Path("model.safetensors"), metadata or {})


def test_idm_file(tmp_path: Path) -> None:
    (found,) = settings(idm, written(tmp_path, "micro.json", IDM_FILE))
    known = mapping_of(idm_config("idm_micro"))
    assert found.values.items() <= (known | {"s_max": 4.0}).items()
    assert found.values["s_max"] == 4.0
    assert found.values["norm_groups"] == 8
    assert found.schedules["train"] == NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
    assert found.schedules["val"] == NoiseSchedule.from_kind("linear", 100, 1e-4, 5e-2)


def test_latent_file(tmp_path: Path) -> None:
    (found,) = settings(latent, written(tmp_path, "tiny.yaml", LATENT_FILE))
    known = latent.settings_from_record(mapping_of(latent_config("latent_sr_tiny")))
    # kind, and the groups of the normalisation, are in no file; scale_factor is the checkpoint's alone.
    assert known.keys() - found.values.keys() == {"kind", "unet.norm_groups", "first_stage.norm_groups"}
    same = {key: value for key, value in known.items() if key in found.values}
    assert found.values == same | {"linear_start": "1e-4"}
    assert not found.schedules


def test_latent_file_of_an_auto_encoder_alone() -> None:
    mapping = {"model": {"params": {"ddconfig": {"z_channels": 3, "ch": 32}, "liifconfig": {"hidden_list": [64]}}}}
    (found,) = settings(latent, mapping)
    assert found.values == {"first_stage.z_channels": 3, "first_stage.ch": 32, "first_stage.hidden_list": [64]}


def test_a_mapping_of_fields() -> None:
    (found,) = settings(idm, {"s_max": 4, "norm_groups": 8})
    assert (found.values, found.source) == ({"s_max": 4, "norm_groups": 8}, "config")


def test_metadata_round_trip() -> None:
    schedule = NoiseSchedule.from_kind("linear", 100, 1e-4, 5e-2)
    for family, config in ((idm, idm_config("idm_micro")), (latent, latent_config("latent_sr_tiny"))):
        (found,) = settings(family, None, metadata_for(config, schedule))
        assert found.source == "metadata"
        assert found.values == family.settings_from_record(family.as_mapping(config))
        assert found.schedules == {"schedule": schedule}


@pytest.mark.parametrize(
    ("family", "mapping", "message"),
    [
        (idm, {"s_maxx": 4}, "the configuration given: the key 's_maxx' is unknown; the nearest known is 's_max'"),
        (idm, {"config": {}, "shedule": {}}, "the key 'shedule' is unknown; the nearest known is 'schedule'"),
        (
            idm,
            {"model": {"unet": {"res_block": 2}}},
            "model.unet: the key 'res_block' .* nearest known is 'res_blocks'",
        ),
        (idm, {"model": {"unet": 3}}, "model.unet is 3, expected a mapping"),
        (idm, {"model": {"params": {}}}, "is no configuration of IDM: it has no section model.unet"),
        (idm, {"config": {}, "family": "latent"}, "says the family is 'latent', the weights are of 'idm'"),
        (
            idm,
            {"model": {"unet": {}, "beta_schedule": {"val": {"n_timesteps": 5}}}},
            "beta_schedule.val: the key 'n_timesteps' is unknown; the nearest known is 'n_timestep'",
        ),
        (latent, {"model": {"unet": {}}}, "is no configuration of the latent family: it has no ddconfig"),
        (
            latent,
            {"model": {"params": {"ddconfig": {"chs": 32}}}},
            "first_stage: the key 'chs' is unknown; the nearest known is 'ch'",
        ),
    ],
)
def test_configurations_that_cannot_be_meant(family: Any, mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(family, mapping)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "metadata of model.safetensors are damaged: key idm_deploy is not JSON"), ("[]", "holds list, expected")],
)
def test_damaged_metadata(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(idm, None, {METADATA_KEY: text})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{'model': 1}", r"a.json is not JSON \(with // comments\)"),
        ("a.json", "[1, 2]", r"a.json holds list, expected a mapping"),
        ("a.yaml", "model: [", r"a.yaml is not YAML"),
        ("a.yml", "just text", r"a.yml holds str, expected a mapping"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(written(tmp_path, name, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.json cannot be read: No such file"):
        read_config(tmp_path / "none.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match=r"picture.json cannot be read: not a text file"):
        read_config(tmp_path / "picture.json")
