"""The packaged pictures are what the rules make of the photographs, and the sets are apart."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as changed
from safetensors import safe_open
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.bundle.fitted import FittedEquation, FittedStep, FittedTo
from deploy.bundle.reading import sha256_of_file
from deploy.checkpoint.load import load_checkpoint
from deploy.export.export import PLAIN_PRESETS
from deploy.images.files import read_image
from deploy.packaged.places import (
    CALIBRATION_IMAGES,
    EVALUATION_IMAGES,
    IDM_BUNDLE,
    IDM_CARD,
    IDM_CHECKPOINT,
    LATENT_CARD,
    LATENT_CHECKPOINT,
    PACKAGED,
    SAMPLE_IMAGES,
    SAMPLE_ORIGINALS,
    packaged_pictures,
)
from deploy.packaged.presets import presets_of, presets_place, with_packaged_presets
from deploy.sampling.choices import PRESET_NAMES, Choices, sampling_from
from training import packing
from training.held_out import WALLPAPERS
from training.packing import (
    CALIBRATION,
    SAMPLES,
    Grid,
    Pixels,
    calibration_pictures,
    photograph_named,
    sample_originals,
    sample_pictures,
)
from training.packing import app as packing_app
from training.photographs import PHOTOGRAPHS, held_out_photographs, training_photographs

FITTED_TO_INT8 = FittedEquation(
    steps=(FittedStep(noise_level=0.5, x=0.0, x0=(1.0,)),),
    from_guess=True,
    consistency=1.0,
    fitted_to=FittedTo(
        family="idm",
        engine="onnxruntime-cpu",
        precision="int8",
        pictures=2,
        scales=(4.0,),
        seed=0,
        int8_target="ort",
        int8_sha256="0" * 64,
    ),
)


def packaged(folder: Path) -> dict[str, Pixels]:
    return {path.name: read_image(path).pixels for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize(
    ("folder", "made"),
    [
        (CALIBRATION_IMAGES, calibration_pictures),
        (SAMPLE_IMAGES, sample_pictures),
        (SAMPLE_ORIGINALS, sample_originals),
    ],
)
def test_the_packaged_pictures_follow_from_the_rules(folder: Path, made) -> None:  # type: ignore[no-untyped-def]
    expected = made()
    found = packaged(folder)
    assert found.keys() == expected.keys()
    for name, pixels in expected.items():
        np.testing.assert_array_equal(found[name], pixels, err_msg=name)


def test_evaluation_and_samples_are_held_out_and_calibration_is_not() -> None:
    held_out = {photograph.name for photograph in held_out_photographs()}
    wallpapers = {photograph.name for photograph in WALLPAPERS}
    assert {path.stem.split("-")[0] for path in EVALUATION_IMAGES.glob("*.png")} == held_out | wallpapers
    assert not wallpapers & {photograph.name for photograph in PHOTOGRAPHS}
    assert set(SAMPLES) <= held_out
    assert {grid.photograph for grid in CALIBRATION} <= {photograph.name for photograph in training_photographs()}


def test_the_sets_have_the_sizes_that_are_stated() -> None:
    evaluation, calibration = packaged(EVALUATION_IMAGES), packaged(CALIBRATION_IMAGES)
    assert (len(evaluation), len(calibration)) == (24, 16)
    assert {pixels.shape for pixels in evaluation.values()} == {(128, 128, 3)}
    assert {pixels.shape for pixels in calibration.values()} == {(144, 144, 3)}
    assert [path.stem for path in packaged_pictures()] == sorted(SAMPLES)


@pytest.mark.parametrize("folder", [EVALUATION_IMAGES, CALIBRATION_IMAGES, SAMPLE_IMAGES])
def test_every_photograph_is_listed_with_its_licence(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for name in {path.stem.split("-")[0] for path in folder.glob("*.png")}:
        assert f"| {name} |" in text
        photograph = next(photograph for photograph in (*PHOTOGRAPHS, *WALLPAPERS) if photograph.name == name)
        assert f"| {photograph.licence} |" in text


def test_a_grid_reaches_from_border_to_border() -> None:
    """coffee is 600x400: the last of 4 columns begins at 472, the last of 3 rows at 272."""
    from training.photographs import read_photograph

    picture = read_photograph(photograph_named("coffee"))
    crops = Grid(photograph="coffee", rows=3, columns=4, side=128).crops()
    np.testing.assert_array_equal(crops["coffee-00.png"], picture[:128, :128])
    np.testing.assert_array_equal(crops["coffee-23.png"], picture[272:, 472:])
    middle = Grid(photograph="coffee", rows=1, columns=1, side=100, box=(0, 0, 200, 300)).crops()["coffee-00.png"]
    np.testing.assert_array_equal(middle, picture[50:150, 100:200])


def test_the_package_holds_all_of_it() -> None:
    """What setuptools is told to package covers every file under deploy/packaged that is not Python."""
    import tomllib

    root = PACKAGED.parent.parent
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["deploy"]
    files = [p for p in PACKAGED.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    assert files
    for path in files:
        inside = path.relative_to(root / "deploy")
        assert any(inside.match(pattern) and len(inside.parts) == pattern.count("/") + 1 for pattern in patterns), path


@pytest.mark.parametrize(("checkpoint", "card"), [(IDM_CHECKPOINT, IDM_CARD), (LATENT_CHECKPOINT, LATENT_CARD)])
def test_the_cards_name_the_hash_and_licence_of_their_checkpoint(checkpoint: Path, card: Path) -> None:
    text = card.read_text()
    assert f"| SHA-256 | `{sha256_of_file(checkpoint)}` |" in text
    assert "| Licence | Apache-2.0" in text


def test_the_packaged_bundle_is_whole_and_made_of_the_packaged_checkpoint() -> None:
    bundle = Bundle.open(IDM_BUNDLE)
    assert bundle.manifest.source.sha256 == sha256_of_file(IDM_CHECKPOINT)
    told = json.loads(json.dumps(presets_of(bundle.manifest)))
    assert told == json.loads(presets_place(IDM_CHECKPOINT).read_text())
    assert bundle.manifest.default_preset == "balanced"
    assert bundle.unlisted() == []
    samples = [read_image(path).pixels for path in bundle.sample_images()]
    for found, expected in zip(samples, sample_pictures().values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_packaged_keeps_its_limits() -> None:
    assert sum(path.stat().st_size for path in IDM_BUNDLE.iterdir()) <= 25e6
    assert max(path.stat().st_size for path in (IDM_CHECKPOINT, LATENT_CHECKPOINT)) <= 12e6


@pytest.mark.parametrize("checkpoint", [IDM_CHECKPOINT, LATENT_CHECKPOINT])
def test_the_packaged_checkpoints_load_strictly_and_assume_nothing_of_the_network(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.family == checkpoint.stem.split("-")[0]
    names = set(loaded.network.state_dict())
    with safe_open(checkpoint, framework="np") as file:
        assert names <= set(file.keys())


@pytest.mark.parametrize("checkpoint", [IDM_CHECKPOINT, LATENT_CHECKPOINT])
def test_every_packaged_preset_is_one_that_can_be_sampled(checkpoint: Path) -> None:
    plain = replace(Bundle.open(IDM_BUNDLE).manifest, presets=PLAIN_PRESETS, fitted=None)
    assert with_packaged_presets(plain).presets["balanced"].steps < 20  # that of IDM_CHECKPOINT, by its hash
    manifest = with_packaged_presets(replace(plain, source=changed(plain.source, sha256=sha256_of_file(checkpoint))))
    assert with_packaged_presets(replace(plain, source=changed(plain.source, sha256="0" * 64))).presets == PLAIN_PRESETS
    assert sorted(manifest.presets) == sorted(PRESET_NAMES)
    for name, preset in manifest.presets.items():
        assert sampling_from(manifest, Choices(preset=name)).plan.steps == preset.steps


def test_the_presets_command_writes_what_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: tmp_path / getattr(packing, name).name for name in ("IDM_CHECKPOINT", "LATENT_CHECKPOINT")}
    for name, place in places.items():
        shutil.copyfile(getattr(packing, name), place)
        monkeypatch.setattr(packing, name, place)
    result = CliRunner().invoke(packing_app, ["presets", str(IDM_BUNDLE)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "idm-demo.presets.json").read_bytes() == presets_place(IDM_CHECKPOINT).read_bytes()
    shutil.copytree(IDM_BUNDLE, tmp_path / "other.bundle")
    other = Bundle.open(tmp_path / "other.bundle")
    refused = (
        (replace(other.manifest, source=changed(other.manifest.source, sha256="0" * 64)), "not packaged"),
        (replace(other.manifest, fitted={"fitted-1": FITTED_TO_INT8}), "fit int8 graphs alone"),
    )
    for manifest, why in refused:
        (other.path / "bundle.json").write_bytes(manifest.as_bytes())
        result = CliRunner().invoke(packing_app, ["presets", str(other.path)])
        assert result.exit_code == 2
        assert why in " ".join(result.output.split())


def test_the_bundle_command_makes_the_packaged_bundle_again(tmp_path: Path) -> None:
    """The same bytes wherever the same versions of numpy and onnx write them."""
    result = CliRunner().invoke(packing_app, ["bundle", "-o", str(tmp_path / "again.bundle")])
    assert result.exit_code == 0, result.output
    again, packaged_one = Bundle.open(tmp_path / "again.bundle"), Bundle.open(IDM_BUNDLE)
    if again.manifest.libraries != packaged_one.manifest.libraries:
        pytest.skip("the packaged bundle was written by other versions of numpy or onnx")
    assert again.manifest.files == packaged_one.manifest.files


def test_the_pictures_command_writes_what_is_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a wheel carries; for the wallpapers, others of their names."""
    wallpapers = tmp_path / "wallpapers"
    wallpapers.mkdir()
    for photograph in WALLPAPERS:
        shutil.copyfile(SAMPLE_ORIGINALS / "coffee.png", wallpapers / f"{photograph.file}.png")
    places = {"EVALUATION_IMAGES": 24, "CALIBRATION_IMAGES": 16, "SAMPLE_IMAGES": 3, "SAMPLE_ORIGINALS": 3}
    for name in places:
        monkeypatch.setattr(packing, name, tmp_path / name)
    (tmp_path / "EVALUATION_IMAGES").mkdir()
    (tmp_path / "EVALUATION_IMAGES" / "of-yesterday.png").write_bytes(b"")
    result = CliRunner().invoke(packing_app, ["pictures", "--wallpapers", str(wallpapers)])
    assert result.exit_code == 0, result.output
    for name, count in places.items():
        assert len(packaged(tmp_path / name)) == count
