"""When a bundle's fitted equation is taken, what it makes, and what it is refused for."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.bundle import Bundle, BundleWriter, Manifest
from deploy.bundle.fitted import FittedEquation, FittedStep, FittedTo
from deploy.bundle.records import Preset
from deploy.errors import BundleError, PlanError
from deploy.picture.existing import Making
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices, sampling_from
from deploy.sampling.fitted import check_int8, is_stale, without_fits_to_int8
from deploy.sampling.plan import Plan, PlanSettings, make_plan

LEVELS = (0.5, 0.75, 0.9)
LR = np.random.default_rng(4).integers(0, 256, (6, 5, 3), np.uint8)
TO = FittedTo(family="idm", engine="onnxruntime-cpu", precision="fp32", pictures=2, scales=(4.0, 2.0), seed=0)


def equation_of(plan: Plan, **changes: Any) -> FittedEquation:
    """An equation whose rows are those of a plan by rule."""
    steps = [FittedStep(noise_level=row.noise_level, x=row.x, x0=row.x0, noise=row.noise) for row in plan.rows]
    return msgspec.structs.replace(
        FittedEquation(steps=tuple(steps), from_guess=True, consistency=0.5, fitted_to=TO), **changes
    )


@pytest.fixture
def manifest(idm_micro: Bundle) -> Manifest:
    with Upscaler(idm_micro) as upscaler:
        settings = PlanSettings(steps=3, placement=LEVELS, eta=1.0)
        rules = upscaler.session.model.sampling
        equation = equation_of(make_plan(upscaler.session.schedule, settings, rules=rules))
    preset = Preset(equation="fitted-3", steps=3, start=0.5, consistency=0.5, placement="logsnr", eta=1.0)
    presets = {"draft": Preset(equation="ddim", steps=1), "balanced": preset}
    return replace(idm_micro.manifest, fitted={"fitted-3": equation}, presets=presets, default_preset="balanced")


@pytest.fixture
def copied(idm_micro: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(idm_micro.path, tmp_path / "micro.bundle")
    return Bundle.open(tmp_path / "micro.bundle")


@pytest.fixture
def bundle(manifest: Manifest, idm_micro: Bundle) -> Bundle:
    return replace(idm_micro, manifest=manifest)


def test_rows_of_an_equation_by_rule_make_its_picture_and_survive_in_a_bundle(
    manifest: Manifest, copied: Bundle
) -> None:
    with BundleWriter.update(copied) as writer:
        writer.commit(manifest)
    with Upscaler(Bundle.open(copied.path), threads=1) as upscaler:
        assert upscaler.bundle.manifest.fitted == manifest.fitted
        fitted = upscaler.upscale(LR, scale=2.0)
        by_rule = Choices(equation="ddim", placement=LEVELS, start=0.5, eta=1.0, consistency=0.5)
        assert np.array_equal(fitted, upscaler.upscale(LR, scale=2.0, choices=by_rule))
        sampling = upscaler.sampling()
        # What folders are told by, and what `infer --json` says.
        assert Making.of_run(upscaler, sampling, seed=0, tile=None).plan
    assert sampling.describe() == (
        "balanced: fitted-3, 3 steps as fitted on onnxruntime-cpu fp32, from the enlarged input noised to level 0.5, "
        "data consistency 0.5"
    )
    assert msgspec.json.decode(msgspec.json.encode(sampling.as_dict()))["plan"]["fitted"][1]["noise_level"] == 0.75
    settings = sampling.plan
    assert PlanSettings.from_dict(msgspec.json.decode(msgspec.json.encode(settings.as_dict()))) == settings


def test_what_it_was_fitted_with_comes_with_it(manifest: Manifest) -> None:
    """Whatever preset the rest is of: draft begins with pure noise."""
    sampling = sampling_from(manifest, Choices(preset="draft", equation="fitted-3"))
    assert (sampling.plan.steps, sampling.plan.placement, sampling.consistency) == (3, LEVELS, 0.5)
    assert sampling.from_guess and sampling.fitted is not None
    said = Choices(equation="fitted-3", steps=3, start=0.5, consistency=0.5, eta=0.0)
    assert sampling_from(manifest, said).plan == sampling.plan


def test_a_preset_changed_by_the_caller_takes_an_equation_by_rule(manifest: Manifest) -> None:
    sampling = sampling_from(manifest, Choices(steps=5))
    assert (sampling.plan.equation, sampling.plan.placement, sampling.plan.eta) == ("ddim", "logsnr", 1.0)
    assert (sampling.plan.steps, sampling.plan.start, sampling.fitted) == (5, 0.5, None)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"steps": 5}, "found steps 5"),
        ({"start": 0.3}, "found start 0.3"),
        ({"start": 0.0}, "found start 0"),
        ({"consistency": 0.0}, "found consistency 0"),
        ({"placement": "uniform", "eta": 0.5}, "found a placement, eta 0.5"),
    ],
)
def test_an_equation_that_is_named_is_refused_with_what_it_was_not_fitted_for(
    manifest: Manifest, said: dict[str, Any], found: str
) -> None:
    with pytest.raises(PlanError, match=rf"fitted with 3 steps, start 0.5, consistency 0.5; {found}.*schedule --fit"):
        sampling_from(manifest, Choices(equation="fitted-3", **said))


def test_an_equation_that_the_bundle_lacks_is_refused_with_the_command(manifest: Manifest) -> None:
    with pytest.raises(
        PlanError, match=r"no equation 'fitted-8'; it has fitted-3\. Run `idm-deploy schedule --fit --st"
    ):
        sampling_from(manifest, Choices(equation="fitted-8"))


def test_an_equation_of_another_family_is_refused(manifest: Manifest) -> None:
    assert manifest.fitted is not None
    equation = manifest.fitted["fitted-3"]
    other = msgspec.structs.replace(equation, fitted_to=msgspec.structs.replace(TO, family="another"))
    with pytest.raises(PlanError, match="fitted to a model of the family another, this bundle's is idm"):
        sampling_from(replace(manifest, fitted={"fitted-3": other}), Choices())


def test_a_magnification_beyond_the_fit_is_refused_and_one_in_stages_is_not(bundle: Bundle) -> None:
    """Where only the preset names the equation, one by rule takes its place."""
    with Upscaler(bundle, threads=1) as upscaler:
        with pytest.raises(
            PlanError, match=r"fitted up to 4 times, .* enlarge 6 times at once.*stages 4 or --equ.*ddim"
        ):
            upscaler.upscale(LR, scale=6.0, equation="fitted-3")
        in_stages = upscaler.upscale(LR, scale=6.0, stages=(4.0,))
        assert np.array_equal(in_stages, upscaler.upscale(LR, scale=6.0, stages=(4.0,), equation="fitted-3"))
        assert np.array_equal(upscaler.upscale(LR, scale=6.0), upscaler.upscale(LR, scale=6.0, equation="ddim"))
        for stages, scale, fits in (
            ("once", None, True),
            ("once", 4.0, True),
            ("once", 5.0, False),
            ((5.0,), None, False),
        ):
            sampling = upscaler.sampling(Choices(stages=stages), scale)
            assert (sampling.plan.equation == "fitted-3") is fits, (stages, scale)


def test_rows_fitted_to_other_int8_graphs_are_refused_and_go_with_them(manifest: Manifest) -> None:
    assert manifest.fitted is not None
    to = msgspec.structs.replace(TO, int8_target="a", int8_sha256="0" * 64)
    equation = msgspec.structs.replace(manifest.fitted["fitted-3"], fitted_to=to)
    check_int8(equation, "a", "0" * 64)
    check_int8(equation, "b", "1" * 64)  # other graphs of another target: not those that were made anew
    with pytest.raises(PlanError, match=r"int8 graphs that this bundle no longer has\. Run `idm-deploy schedule --fit"):
        check_int8(equation, "a", "1" * 64)
    assert is_stale(equation, None)
    both = {"fitted-3": equation, "fitted-1": msgspec.structs.replace(equation, steps=equation.steps[:1], fitted_to=TO)}
    without, gone = without_fits_to_int8(replace(manifest, fitted=both))
    assert gone == ["fitted-3"] and list(without.fitted or {}) == ["fitted-1"]
    assert sampling_from(without, Choices()).plan.equation == "ddim"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda record: record.pop("fitted_to"), "missing required field `fitted_to`"),
        (lambda record: record["steps"].reverse(), "noise levels of its steps do not rise"),
        (lambda record: record["steps"].pop(), "it has 2 steps, its name says otherwise"),
        (lambda record: record["steps"][0].update(x0=[1.0, 0.5]), "uses more estimates than there are"),
        (lambda record: record["steps"][0].update(turn="twice"), "invalid enum value 'twice'"),
    ],
)
def test_a_record_that_cannot_be_is_refused_with_its_place(manifest: Manifest, spoil: Any, problem: str) -> None:
    data = msgspec.json.decode(manifest.as_bytes())
    spoil(data["fitted"]["fitted-3"])
    with pytest.raises(BundleError, match=f"fitted.fitted-3.*{problem}"):
        Manifest.from_json(data)
