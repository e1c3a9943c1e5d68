"""`idm-deploy evaluate` on a tiny bundle with made-up weights: what is run, named, written and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from deploy.bundle import Bundle
from deploy.cli.main import app
from deploy.errors import BundleError, ImageError, PlanError
from tests.checkpoints import save_idm


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from deploy.checkpoint import load_checkpoint
    from deploy.export.export import export_bundle

    folder = tmp_path_factory.mktemp("evaluated")
    checkpoint = load_checkpoint(save_idm(folder), config={"norm_groups": 8, "image_size": 16})
    return export_bundle(checkpoint, folder / "micro.bundle")


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (32, 32)), ("b.png", (35, 41))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def run(*arguments: object) -> Result:
    common = ["--engine", "onnxruntime-cpu", "--threads", "1"]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), *common])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_preset_is_a_row_beside_those_without_a_model(bundle: Bundle, originals: Path) -> None:
    settings = ["--preset", "draft", "--preset", "best", "--steps", 1, "--samples", 2, "--consistency", 1]
    result = run(originals, "--bundle", bundle.path, *settings, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    names = ["bicubic", "bicubic, 5 back-projections", "draft", "draft, mean of 2", "best", "best, mean of 2"]
    assert [row["name"] for row in data["rows"]] == names
    assert [one["size"] for one in data["originals"]] == [[32, 32], [40, 32]]
    assert [one["lr"] for one in data["originals"]] == [[8, 8], [10, 8]]
    draft = data["rows"][2]
    assert len(draft["figures"]["psnr"]["values"]) == 2
    assert draft["seconds"] > 0
    assert draft["evaluations"] == 1
    assert "data consistency 1" in draft["description"]


def test_the_same_bundle_twice_gives_two_rows_with_the_same_figures(bundle: Bundle, originals: Path) -> None:
    common = ["--steps", 1, "--limit", 1, "--crop", 16, "--json"]
    result = run(originals, "--bundle", bundle.path, "--bundle", bundle.path, *common)
    first, second = json.loads(result.stdout)["rows"][2:]
    assert (first["name"], second["name"]) == ("balanced", "balanced (2)")
    assert first["figures"] == second["figures"]
    assert first["fidelity"] is None
    assert second["counterpart"] == "balanced"
    assert second["fidelity"]["values"] == [None]  # equal pictures: infinite


def test_the_report_is_written_and_named(bundle: Bundle, originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    result = run(originals, "--bundle", bundle.path, "--steps", 1, "-o", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 originals at 4x, means with 95 % intervals\n")
    assert f"report: {folder}" in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "evaluation.md", "pictures-1.png"]


def test_what_cannot_be_run_is_refused_before_the_work(bundle: Bundle, originals: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="9 pictures were asked for"):
        run(originals, "--bundle", bundle.path, "--limit", 9)
    with pytest.raises(PlanError, match="The preset 'beast' is unknown, the nearest is 'best'"):
        run(originals, "--bundle", bundle.path, "--preset", "beast")
    with pytest.raises(BundleError, match="is not a bundle"):
        run(originals, "--bundle", tmp_path / "none")
