"""`idm-deploy schedule` on the command line."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from deploy.bundle import Bundle
from deploy.checkpoint.load import load_checkpoint
from deploy.cli.commands.schedule import schedule
from deploy.export.export import export_bundle
from deploy.measure.evaluation.originals import read_originals
from deploy.measure.ssimulacra2 import ssimulacra2
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from tests.checkpoints import save_idm
from tests.json_schema import checked

app = typer.Typer()
app.command()(schedule)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("schedule")
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (4, 5, 3), np.uint8)).save(folder / "sample.png")
    checkpoint = load_checkpoint(save_idm(folder), config={"norm_groups": 8, "image_size": 16})
    return export_bundle(checkpoint, folder / "micro.bundle", samples=[folder / "sample.png"])


@pytest.fixture
def common(exported: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a short search in a folder with a bundle, two originals to judge by, and nothing else."""
    shutil.copytree(exported.path, tmp_path / "micro.bundle")
    (tmp_path / "mine").mkdir()
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    options = "--steps 2 --equation ddim --start 0.5 --scale 2 --samples 1 --threads 1 --originals mine"
    return options.split()


def test_the_gain_is_printed_and_the_second_time_found(common: list[str]) -> None:
    first = CliRunner().invoke(app, common)
    assert first.exit_code == 0 and "ddim, 2 steps: distance" in first.stdout and "nearer than uniform" in first.stdout
    assert first.output.count("ddim, 2 steps: distance") == 1  # stderr does not say it again
    assert re.search(
        r"micro\.bundle:\n  draft: ddim, 2 steps .*; SSIMULACRA2 -?\d+\.\d on 2 originals of mine\n"
        r"  balanced: .*\(default\)\n  best: .*\n$",
        first.stdout,
    )
    again = CliRunner().invoke(app, [*common, "--json"])
    (row,) = checked("schedule", again.stdout)
    assert row["resumed"] and row["key"] == "ddim/2/0.5"
    assert "found in the bundle" in CliRunner().invoke(app, common).stdout


def test_presets_are_judged_on_the_folder_that_is_named(common: list[str]) -> None:
    """As `evaluate` judges them there: the stored figure is that of the preset on these originals."""
    assert CliRunner().invoke(app, common).exit_code == 0
    bundle = Bundle.open(Path("micro.bundle"))
    judged = bundle.manifest.presets["best"].measured("ssimulacra2")
    with Upscaler(bundle, threads=1) as upscaler:
        originals = read_originals(Path("mine"), 2.0, crop=30)
        looks = [ssimulacra2(upscaler.upscale(one.lr, size=one.size, preset="best"), one.pixels) for one in originals]
    assert judged == pytest.approx(sum(looks) / 2, abs=1e-9)


FIT = "--fit --steps 2 --start 0.5 --scale 2 --threads 1 --originals mine"


@pytest.mark.usefixtures("common")
def test_fitted_equations_are_stored_and_preferred_where_they_look_better() -> None:
    """The second time they are found; then balanced and best are what looks best of all that the bundle has."""
    options = FIT.split()
    first = CliRunner().invoke(app, options)
    assert first.exit_code == 0, first.output
    assert "fitted-2: 2 steps, start 0.5, consistency 0, at noise levels 0.5, " in first.stdout
    assert "on 2 pictures at 2, 1 times, " in first.stdout and "balanced: " in first.stdout
    bundle = Bundle.open(Path("micro.bundle"))
    again = CliRunner().invoke(app, [*options, "--json"])
    (row,) = checked("schedule", again.stdout)
    assert row["resumed"] and row["key"] == row["equation"] == "fitted-2" and len(row["entry"]["steps"]) == 2
    assert row["entry"]["steps"][1]["turn"] == "half"
    assert Bundle.open(Path("micro.bundle")).manifest.as_bytes() == bundle.manifest.as_bytes()
    with Upscaler(bundle, threads=1) as upscaler:
        best = upscaler.sampling(Choices(preset="best"))
        originals = read_originals(Path("mine"), 2.0, crop=30)
        looks = [ssimulacra2(upscaler.upscale(one.lr, size=one.size, preset="best"), one.pixels) for one in originals]
    presets = bundle.manifest.presets
    measured = {name: presets[name].measured("ssimulacra2") or 0.0 for name in ("balanced", "best")}
    assert measured["best"] == pytest.approx(sum(looks) / 2, abs=1e-9) == max(measured["balanced"], measured["best"])
    assert best.fitted is not None  # random weights: what is fitted to the originals looks far better than what is not


@pytest.mark.usefixtures("common")
def test_fitting_refuses_what_it_cannot_use() -> None:
    for other in ("--start 0.3", "--equation ddim", "--samples 1", "--image photo.png"):
        assert CliRunner().invoke(app, [*FIT.split(), *other.split()]).exit_code == 2
    (Path("mine") / "a.png").unlink()
    refused = CliRunner().invoke(app, FIT.split())
    assert refused.exit_code == 1 and "fitted to 1 picture fit that one alone" in str(refused.exception)
    assert Bundle.open(Path("micro.bundle")).manifest.fitted is None


def test_a_malformed_list_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["--steps", "5,x"]).exit_code == 2
