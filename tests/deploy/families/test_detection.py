"""Every recorded manifest: detection recovers from names and shapes whatever they reveal, and marks the rest."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.checkpoint.load import recognise
from deploy.errors import CheckpointError, ConfigError
from deploy.families.contract import mapping_of
from deploy.families.detection import Detection, Settings, Stored, typed
from deploy.families.idm import detect as idm
from deploy.families.idm.config import IdmConfig
from deploy.families.idm.family import IDM
from deploy.families.latent import detect as latent
from deploy.families.latent.family import LATENT
from deploy.families.table import FAMILIES
from deploy.sampling.schedule import NoiseSchedule
from tests.idm_models import idm_config
from tests.latent_models import LATENT_NAMES, latent_config
from tests.recordings import manifest

IDM_NAMES = ("idm_ffhq_16_128", "idm_tiny", "idm_micro")
# What no shape depends on.
IDM_HIDDEN = {"norm_groups", "image_size", "res_scale", "s_max"}
LATENT_HIDDEN = {
    "first_stage.resolution",
    "first_stage.dropout",
    "first_stage.local_ensemble",
    "first_stage.norm_groups",
    "unet.image_size",
    "unet.num_head_channels",
    "unet.norm_groups",
    "image_size",
    "inp_size",
    "lr_size",
    "default_output_size",
    "c_encode",
    "scale_by_std",
}


def stored(name: str, betas: Any = None, **changes: Any) -> Stored:
    shapes = {key: shape for key, (shape, _) in manifest(name).items()}
    return Stored(path=Path(f"{name}.pt"), shapes=shapes | changes, betas=betas)


def float32(schedule: NoiseSchedule) -> Any:
    return schedule.betas.astype(np.float32)


def config_of(values: dict[str, Any], label: str = "train.json", **schedules: NoiseSchedule) -> Settings:
    return Settings(source="config", label=label, values=values, schedules=schedules)


def flat(family: Any, config: Any) -> dict[str, Any]:
    values: dict[str, Any] = family.settings_from_record(family.as_mapping(config))
    return values


@pytest.mark.parametrize("name", [*IDM_NAMES, *LATENT_NAMES])
def test_the_family_is_recognised(name: str) -> None:
    family = recognise(Path(name), stored(name).shapes)
    assert family is (IDM if name in IDM_NAMES else LATENT)


@pytest.mark.parametrize("name", IDM_NAMES)
def test_idm_configuration_from_the_weights_alone(name: str) -> None:
    found, known = idm.detect(stored(name), []), idm_config(name)
    fields = {field.name for field in dataclasses.fields(IdmConfig)}
    for field in fields - IDM_HIDDEN - {"attn_res"}:
        assert getattr(found.config, field) == getattr(known, field), field
        assert found.sources[field] == "weights"
    # The weights show levels; the sizes that stand for them depend on the image size.
    assert found.config.attention_levels == known.attention_levels
    assert {field for field, source in found.sources.items() if source == "assumed"} == IDM_HIDDEN | {"schedule"}


def test_the_published_idm_is_recovered_completely() -> None:
    assert idm.detect(stored("idm_ffhq_16_128"), []).config == IdmConfig() == idm_config("idm_ffhq_16_128")


def test_the_assumed_norm_groups_divide_the_channels() -> None:
    # 16 and 32 channels: the authors' 32 groups are impossible.
    assert idm.detect(stored("idm_micro"), []).config.norm_groups == 16


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_latent_configuration_from_the_weights_alone(name: str) -> None:
    known = latent_config(name)
    betas = None
    if known.unet is not None:
        ends = (known.linear_start, known.linear_end)
        betas = float32(NoiseSchedule.from_kind("sqrtlinear", known.timesteps, *ends))
    found = latent.detect(stored(name, betas), [])
    values, expected = flat(LATENT, found.config), flat(LATENT, known)
    attention = {"first_stage.attn_resolutions", "unet.attention_resolutions"}
    diffusion_only = set() if known.unet is not None else {"timesteps", "linear_start", "linear_end"}
    for field in expected.keys() - LATENT_HIDDEN - attention - diffusion_only:
        assert values[field] == expected[field], field
        assert found.sources[field] == "weights"
    assumed = {field for field, source in found.sources.items() if source == "assumed"}
    assert assumed - diffusion_only - {"schedule"} <= LATENT_HIDDEN
    for part, levels in ((known.first_stage, len(known.first_stage.ch_mult)), (known.unet, 4)):
        if part is not None:
            other = found.config.first_stage if part is known.first_stage else found.config.unet
            for level in range(levels):
                assert other.has_attention(level) == part.has_attention(level)


PUBLISHED = ("latent_sr_ffhq_16_128", "latent_sr_div2k_48_192", "latent_gen_ffhq_256_assumed")


@pytest.mark.parametrize("name", PUBLISHED)
def test_assumed_sizes_are_those_of_the_published_models(name: str) -> None:
    found, known = latent.detect(stored(name), []).config, latent_config(name)
    for field in ("image_size", "inp_size", "lr_size", "default_output_size", "linear_start", "linear_end"):
        assert getattr(found, field) == getattr(known, field), field


@pytest.mark.parametrize("name", IDM_NAMES)
def test_idm_configuration_with_a_configuration_file(name: str) -> None:
    given = config_of(mapping_of(idm_config(name)))
    found = idm.detect(stored(name), [given])
    assert found.config == idm_config(name)
    assert set(found.sources.values()) == {"config", "assumed"}  # assumed: the schedule


@pytest.mark.parametrize("name", LATENT_NAMES)
def test_latent_configuration_with_a_configuration_file(name: str) -> None:
    found = latent.detect(stored(name), [config_of(flat(LATENT, latent_config(name)))])
    assert found.config == latent_config(name)


@pytest.mark.parametrize("name", [*IDM_NAMES, *LATENT_NAMES])
def test_configurations_survive_being_listed_field_by_field(name: str) -> None:
    family, config = (IDM, idm_config(name)) if name in IDM_NAMES else (LATENT, latent_config(name))
    listed = json.loads(json.dumps(flat(family, config)))
    assert family.config_from_values(listed) == config


def test_one_given_size_fixes_the_others() -> None:
    found = latent.detect(stored("latent_sr_tiny"), [config_of({"inp_size": 32})])
    assert (found.config.image_size, found.config.first_stage.resolution) == (16, 32)
    assert found.sources["inp_size"] == "config"
    assert found.sources["image_size"] == "assumed"


def test_the_configuration_comes_before_the_metadata_and_both_before_the_default() -> None:
    metadata = Settings(source="metadata", label="metadata", values={"s_max": 4.0, "res_scale": 0.5})
    found = idm.detect(stored("idm_tiny"), [config_of({"s_max": 16}), metadata])
    assert (found.config.s_max, found.config.res_scale, found.config.norm_groups) == (16.0, 0.5, 32)
    assert [found.sources[key] for key in ("s_max", "res_scale", "norm_groups")] == ["config", "metadata", "assumed"]


def test_contradictions_name_both_sides_and_all_values() -> None:
    given = config_of({"inner_channel": 64, "res_blocks": 2})
    with pytest.raises(
        ConfigError, match=r"train.json says inner_channel is 64, the weights have 32; .*res_blocks is 2"
    ):
        idm.detect(stored("idm_tiny"), [given])


def test_contradictory_attention() -> None:
    with pytest.raises(ConfigError, match=r"says attn_res is \[8\], the weights have attention at \[16\]"):
        idm.detect(stored("idm_tiny"), [config_of({"attn_res": [8]})])
    with pytest.raises(ConfigError, match=r"says unet.attention_resolutions is \[4\], .* at \[1, 2\]"):
        latent.detect(stored("latent_sr_tiny"), [config_of({"unet.attention_resolutions": [4]})])


def test_attention_that_no_level_has_is_allowed() -> None:
    # Published: div2k lists the rates 16 and 8, of which only 8 exists; df2k lists 12 and 6, of which none does.
    for name, rates in (("latent_sr_div2k_48_192", (16, 8)), ("latent_sr_df2k_48_192", (12, 6))):
        found = latent.detect(stored(name), [config_of({"unet.attention_resolutions": list(rates)})])
        assert found.config.unet.attention_resolutions == rates


LINEAR = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)
SHORT = NoiseSchedule.from_kind("linear", 100, 1e-4, 5e-2)


def test_idm_schedule_from_the_stored_tables() -> None:
    found = idm.detect(stored("idm_tiny", float32(SHORT)), [])
    assert (found.schedule, found.schedule.kind, found.sources["schedule"]) == (SHORT, "linear", "weights")


def test_idm_schedule_without_tables_is_the_authors() -> None:
    found = idm.detect(stored("idm_tiny"), [])
    assert (found.schedule, found.sources["schedule"]) == (LINEAR, "assumed")


@pytest.mark.parametrize("tables", [LINEAR, SHORT, None])
def test_idm_validation_schedule_counts_once_the_tables_match_the_configuration(tables: NoiseSchedule | None) -> None:
    betas = None if tables is None else float32(tables)
    found = idm.detect(stored("idm_tiny", betas), [config_of({}, train=LINEAR, val=SHORT)])
    assert (found.schedule, found.sources["schedule"]) == (SHORT, "config")


def test_contradictory_schedules() -> None:
    other = NoiseSchedule.from_kind("linear", 2000, 1e-6, 2e-2)
    with pytest.raises(ConfigError, match=r"train.json gives the noise schedule linear, 100 .* the stored tables are"):
        idm.detect(stored("idm_tiny", float32(other)), [config_of({}, train=LINEAR, val=SHORT)])
    betas = float32(NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0001, 0.015))
    with pytest.raises(ConfigError, match=r"gives the noise schedule linear, 2000 .* the stored tables are sqrtlinear"):
        latent.detect(stored("latent_sr_tiny", betas), [config_of({}, schedule=LINEAR)])
    with pytest.raises(ConfigError, match=r"linear_start is 0.0015, the weights have 0.0001"):
        latent.detect(stored("latent_sr_tiny", betas), [config_of({"linear_start": 0.0015})])


def test_latent_schedule_from_each_source() -> None:
    schedule = NoiseSchedule.from_kind("sqrtlinear", 1000, 0.0001, 0.015)

    def detected(betas: Any, *settings: Settings) -> Detection:
        return latent.detect(stored("latent_sr_tiny", betas), list(settings))

    for found, source in (
        (detected(float32(schedule)), "weights"),
        (detected(None), "assumed"),
        (detected(None, config_of({"linear_start": 0.0001, "linear_end": 0.015})), "config"),
        (detected(None, config_of({}, schedule=schedule)), "config"),
    ):
        assert (found.schedule, found.sources["schedule"]) == (schedule, source)


def test_a_missing_tensor_is_named() -> None:
    state = stored("idm_tiny")
    shapes = {name: shape for name, shape in state.shapes.items() if name != "encoder.head.0.weight"}
    with pytest.raises(CheckpointError, match=r"idm_tiny.pt lacks encoder.head.0.weight, .*save the whole state_dict"):
        idm.detect(dataclasses.replace(state, shapes=shapes), [])


def test_a_tensor_of_another_rank_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"encoder.head.0.weight has shape \[64, 3\], expected 4 dimensions"):
        idm.detect(stored("idm_tiny", **{"encoder.head.0.weight": (64, 3)}), [])


def test_levels_with_different_numbers_of_blocks() -> None:
    state = stored("latent_gen_tiny")
    gone = "model.diffusion_model.input_blocks.2."
    shapes = {name: shape for name, shape in state.shapes.items() if not name.startswith(gone)}
    with pytest.raises(CheckpointError, match="levels of the U-Net have 1, 2, 2 blocks, expected one number for all"):
        latent.detect(dataclasses.replace(state, shapes=shapes), [])


def test_another_network_is_told_what_it_lacks() -> None:
    # With one of IDM's own layers it is no SR3, whose names are IDM's too.
    part = {
        name: shape
        for name, shape in stored("idm_tiny").shapes.items()
        if name.startswith(("denoise_fn.condition_shift", "denoise_fn.final_conv"))
    }
    message = (
        r"another network .*; the nearest known family is IDM.* lacks denoise_fn.downs.0.weight, .*"
        r" denoise_fn.conv_body_first.0.weight, encoder.head"
    )
    with pytest.raises(CheckpointError, match=message):
        recognise(Path("part.pth"), part)
    with pytest.raises(
        CheckpointError, match=r"holds another network \(tensors: 1\).*Known families: latent, idm, sr3"
    ):
        recognise(Path("resnet.pth"), {"fc.weight": (10, 512)})


def test_families_are_told_apart_whatever_their_order() -> None:
    for family in FAMILIES:
        others = [name for name in (*IDM_NAMES, *LATENT_NAMES) if name.startswith("idm") != (family.name == "idm")]
        for name in others:
            shapes = stored(name).shapes
            assert any(mark not in shapes for mark in family.marks_of(shapes))


@pytest.mark.parametrize(
    ("value", "example", "message"),
    [
        ("128", 128, r"image_size is '128', expected a value like 128"),
        (True, 128, r"image_size is True"),
        (12.5, 128, r"image_size is 12.5"),
        (16, (16,), r"image_size is 16, expected a value like \[16\]"),
        ([16.5], (16,), r"image_size is 16.5"),
        ("fast", 1.0, r"image_size is 'fast', expected a value like 1.0"),
        (True, 1.0, r"image_size is True"),
    ],
)
def test_values_of_another_type(value: Any, example: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"train.json: {message}"):
        typed(config_of({}), "image_size", value, example)


def test_numbers_that_yaml_takes_for_text() -> None:
    assert typed(config_of({}), "linear_start", "1e-6", 0.1) == 1e-6
    assert typed(config_of({}), "s_max", 8, 4.0) == 8.0
    assert typed(config_of({}), "attn_res", [16, 8], (1,)) == (16, 8)
