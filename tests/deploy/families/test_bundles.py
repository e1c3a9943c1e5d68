"""What a bundle records is held against its family before anything of it is used; each refusal names the value."""

from dataclasses import replace
from typing import Any

import pytest

from deploy.bundle import Bundle
from deploy.bundle.records import ConfiguredValue, Preset, ScheduleOfBetas, ScheduleOfKind
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError
from deploy.families.bundles import check_bundle
from deploy.families.contract import Family
from deploy.families.table import FAMILIES


def _with_value(bundle: Bundle, name: str, value: Any) -> Bundle:
    configuration = {**bundle.manifest.configuration, name: ConfiguredValue(value=value, source="weights")}
    return replace(bundle, manifest=replace(bundle.manifest, configuration=configuration))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("s_max", 1.0, "s_max must be above 1, got 1.0"),
        ("s_max", 1e9, "s_max is 1e[+]09, expected 1.001 to 16384"),
        ("s_max", 3.0, r"its scale_range says \[1.0, 8.0\], its configuration \[1.0, 3.0\]"),
        ("s_max", "8", "s_max is '8', expected a number"),
        ("channel_multiplier", 5, "channel_multiplier is 5, expected a list"),
        ("channel_multiplier", [1] * 13, "levels is 13, expected 1 to 12"),
        ("channel_multiplier", [], "channel_multiplier is empty"),
        ("n_resblocks", 10**6, "n_resblocks is 1e[+]06, expected 1 to 4096"),
        ("inner_chanel", 64, r"there is no 'inner_chanel' \(did you mean 'inner_channel'\?\)"),
    ],
)
def test_a_configuration_that_its_family_cannot_run_is_refused(
    idm_micro: Bundle, name: str, value: Any, sentence: str
) -> None:
    check_bundle(idm_micro)
    with pytest.raises(BundleError, match=f"idm_micro.bundle cannot be used: .*{sentence}"):
        GraphSet(_with_value(idm_micro, name, value), EngineChoice())


def test_parts_have_kinds_and_limits_too(latent_sr: Bundle) -> None:
    check_bundle(latent_sr)
    with pytest.raises(BundleError, match=r"unet.channel_mult\[0\] is '1', expected a whole number"):
        check_bundle(_with_value(latent_sr, "unet.channel_mult", ["1"]))
    with pytest.raises(BundleError, match="kind is 'painting', expected one that is known"):
        check_bundle(_with_value(latent_sr, "kind", "painting"))
    with pytest.raises(BundleError, match=r"first_stage\.ch is 524288, expected 1 to 16384"):
        check_bundle(_with_value(latent_sr, "first_stage.ch", 1 << 19))


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("presets", {"balanced": Preset(equation="ddimm", steps=1)}, "its preset balanced: .*'ddimm' is unknown"),
        ("presets", {"balanced": Preset(equation="ddim", steps=1, placement="searched")}, "no searched placement"),
        ("presets", {"balanced": Preset(equation="ddim", steps=1, draws=10**6)}, "its preset balanced: .*draws"),
        ("schedule", ScheduleOfKind(kind="quadratic", timesteps=10), "schedule kind 'quadratic' is unknown"),
        ("schedule", ScheduleOfKind(kind="linear", timesteps=10), "beta start must be a number"),
        ("schedule", ScheduleOfBetas(betas=(1.0, 0.5)), "beta 0 of 2 is 1"),
    ],
)
def test_presets_and_schedule_are_ones_that_can_be_sampled(
    idm_micro: Bundle, part: str, value: Any, sentence: str
) -> None:
    with pytest.raises(BundleError, match=f"{sentence}.*Export the checkpoint again"):
        check_bundle(replace(idm_micro, manifest=replace(idm_micro.manifest, **{part: value})))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_limits_are_of_fields_that_there_are(family: Family) -> None:
    for name, (least, most) in family.limits.items():
        first, _, rest = name.partition(".")
        assert name in family.fields or hasattr(family.config, name) or (first and rest), name
        assert least < most
