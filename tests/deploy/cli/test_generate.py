"""`generate`: pictures from noise, at several sizes of the same latent, never over what is there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.cli.commands.generate import _say_once
from deploy.cli.main import app
from deploy.cli.messages import shown_messages
from deploy.errors import ImageError, PlanError
from tests.checkpoints import save_idm, save_latent
from tests.json_schema import checked

RUNNER = CliRunner()


def exported(checkpoint: Path) -> Path:
    bundle = checkpoint.with_suffix(".bundle")
    result = RUNNER.invoke(app, ["export", str(checkpoint), "-o", str(bundle)])
    assert result.exit_code == 0, result.output
    return bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(save_latent(tmp_path_factory.mktemp("generate"), "latent_gen_tiny"))


def command(bundle: Path, folder: Path, *more: str) -> list[str]:
    sizes = ["--size", "20x16", "--size", "40x32"]
    return ["generate", "--bundle", str(bundle), "-o", str(folder), *sizes, "--steps", "2", *more]


def test_pictures_of_every_size_come_from_one_latent(bundle: Path, tmp_path: Path) -> None:
    result = RUNNER.invoke(app, command(bundle, tmp_path / "new", "--count", "2", "--json"))  # which makes the folder
    assert result.exit_code == 0, result.output
    rows = checked("generate", result.stdout)["pictures"]
    assert [(row["width"], row["height"]) for row in rows] == [(20, 16), (40, 32)] * 2
    small, large, other, _ = (np.asarray(Image.open(row["output"]).resize((20, 16)), dtype=float) for row in rows)
    assert np.abs(small - large).mean() < np.abs(small - other).mean()


def test_the_same_seed_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        assert RUNNER.invoke(app, command(bundle, tmp_path, "--force")).exit_code == 0
        written.append([path.read_bytes() for path in sorted(tmp_path.iterdir())])
    assert written[0] == written[1]


def test_what_is_there_is_kept(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "generated_0_0_20x16.png").write_bytes(b"mine")
    result = RUNNER.invoke(app, command(bundle, tmp_path))
    assert isinstance(result.exception, ImageError)
    assert "exists already" in str(result.exception)
    assert (tmp_path / "generated_0_0_20x16.png").read_bytes() == b"mine"


def test_a_model_that_enlarges_cannot_generate(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, command(exported(save_idm(tmp_path)), tmp_path))
    assert isinstance(result.exception, PlanError)
    assert "model that enlarges" in str(result.exception)


def test_what_is_the_same_for_all_pictures_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    told: set[str] = set()
    with shown_messages(quiet=False, verbose=0):
        for line in ("int8: other steps", "smaller tiles", "int8: other steps"):
            _say_once(told, line)
    assert capsys.readouterr().err.splitlines() == ["int8: other steps", "smaller tiles"]
