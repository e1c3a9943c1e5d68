"""The examples of docs/contributing.md still fit the sources, and what they add works."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pages.diffs import ROOT, examples, page_with

TREES = ("deploy", "calibration", "engines", "docs", "tests", "pyproject.toml")
ADDED = """
from engines.backends import BACKENDS, open_engine
from deploy.families.table import family_named
from deploy.packaged.places import IDM_BUNDLE
from deploy import Bundle, Upscaler
from typer.testing import CliRunner
from deploy.cli.main import app
import numpy as np

lr = np.zeros((4, 4, 3), np.uint8)
with Upscaler(Bundle.open(IDM_BUNDLE), engine="onnx-reference") as upscaler:
    assert upscaler.upscale(lr, scale=2.0, equation="unip-2", steps=2).shape == (8, 8, 3)
assert family_named("toy").title == "a toy of three convolutions"
assert "--bundle" in CliRunner().invoke(app, ["engines", "--help"], env={"COLUMNS": "200"}).output
"""


@pytest.mark.parametrize("name", ["equation", "backend", "family", "option"])
def test_an_example_fits(name: str) -> None:
    checked = subprocess.run(
        ["git", "apply", "--check", "-C1", "-"], cwd=ROOT, input=examples()[name], capture_output=True, text=True
    )
    assert not checked.returncode, checked.stderr


def test_the_family_is_the_one_that_runs_from_checkpoint_to_int8_picture() -> None:
    lines = examples()["family"].partition("+++ b/deploy/families/toy/family.py\n")[2].partition("diff --git")[0]
    added = [line[1:] for line in lines.splitlines() if line.startswith("+")]
    assert added == (ROOT / "tests" / "deploy" / "families" / "toy" / "family.py").read_text().splitlines()


@pytest.mark.slow
def test_what_the_examples_add_works(tmp_path: Path) -> None:
    for name in TREES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, tmp_path / name)
    for diff in examples().values():
        subprocess.run(["git", "apply", "-C1", "-"], cwd=tmp_path, input=diff, text=True, check=True)
    done = subprocess.run([sys.executable, "-c", ADDED], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_an_example_is_put_in_place_of_the_one_before() -> None:
    page = page_with("option", "+ nothing\n")
    assert "<!-- diff: option -->\n```diff\n+ nothing\n```" in page
    assert examples()["equation"] in page and examples()["family"] in page
