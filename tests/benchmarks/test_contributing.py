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
from pathlib import Path
import numpy as np

lr = np.zeros((4, 4, 3), np.uint8)
with Upscaler(Bundle.open(IDM_BUNDLE), engine="onnx-reference") as upscaler:
    assert upscaler.upscale(lr, scale=2.0, equation="unip-2", steps=2).shape == (8, 8, 3)
assert family_named("toy").title == "a toy of three convolutions"
assert "--bundle" in CliRunner().invoke(app, ["engines", "--help"], env={"COLUMNS": "200"}).output
Path("a.ppm").write_bytes(b"P6\\n3 2\\n255\\n" + bytes(range(18)))
asked = ["infer", "a.ppm", "--bundle", str(IDM_BUNDLE), "--scale", "2", "--preset", "draft"]
made = CliRunner().invoke(app, asked)
assert Path("a_x2.ppm").read_bytes().startswith(b"P6\\n6 4\\n255\\n"), made.output
"""


@pytest.mark.parametrize("name", ["equation", "backend", "family", "option", "format"])
def test_an_example_fits(name: str) -> None:
    checked = subprocess.run(
        ["git", "apply", "--check", "-C1", "-"], cwd=ROOT, input=examples()[name], capture_output=True, text=True
    )
    assert not checked.returncode, checked.stderr
    assert ".orig" not in examples()[name]  # what `patch` leaves beside a file


@pytest.mark.parametrize(
    ("name", "file"),
    [("family", "deploy/families/toy/family.py"), ("format", "deploy/images/formats/ppm.py")],
)
def test_what_an_example_adds_is_what_other_tests_run(name: str, file: str) -> None:
    lines = examples()[name].partition(f"+++ b/{file}\n")[2].partition("diff --git")[0]
    added = [line[1:] for line in lines.splitlines() if line.startswith("+")]
    assert added == (ROOT / "tests" / file).read_text().splitlines()


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
