"""Every command in the README runs, in the README's order, in a folder with a small checkpoint and a photograph."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from deploy.cli.main import app
from tests.checkpoints import save_idm

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    idm-deploy (.+?)(?:\s{2,}#.*|\s+#.*)?$", README, re.MULTILINE)

QUICKLY = {
    "bench": ["--size", "16x16", "--rounds", "1", "--threads", "1", "--part", "step", "--part", "picture"],
    "build-engine": ["--sizes", "16x16"],
    "evaluate": ["--limit", "1", "--crop", "32", "--threads", "1"],
    "quantize": ["--pictures", "1", "--scale", "2", "--crop", "16", "--targets", "openvino", "--ranges", "1"],
    "report": ["--no-pictures"],
}
"""What a command is told besides, so that the test takes seconds."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("readme")
    save_idm(place).rename(place / "ckpt.pt")
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "photo.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 5
    assert any(command.startswith("infer ") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_readme_runs(command: str, folder: Path) -> None:
    arguments = shlex.split(command)
    if arguments[0] == "export" and (folder / "ckpt.bundle").exists():
        arguments.append("--force")  # shown twice: as the promise on top, and where it is explained
    arguments += QUICKLY.get(arguments[0], [])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make (\S+)", README, re.MULTILINE))))
def test_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("extra", sorted(set(re.findall(r"idm-deploy\[([\w-]+)\]", README))))
def test_extra_of_the_readme_exists(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra in project["optional-dependencies"]


def texts_of_the_code() -> list[str]:
    """Every string of the packages, what is filled in as "…"."""
    found = []
    for file in sorted(path for package in ("deploy", "engines") for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_errors_of_engines_in_the_readme_are_those_of_the_code() -> None:
    section = README.partition("### When an engine refuses")[2].partition("What the engines say themselves")[0]
    told = [
        text for row in re.findall(r"^\| (`.+?`) \| ", section, re.MULTILINE) for text in re.findall(r"`(.+?)`", row)
    ]
    assert len(told) > 15
    texts = texts_of_the_code()
    # A sentence may be made of several strings; each of the parts around what is filled in stands in one of them.
    assert [text for text in told if not all(any(part in one for one in texts) for part in text.split("…"))] == []


def test_python_of_the_readme_runs(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with Image.open(folder / "photo.png") as image:
        names: dict[str, object] = {"image": image.convert("RGB")}
        exec(program.replace("scale=12.0", "scale=2.0"), names)
    large = names["large"]
    assert isinstance(large, Image.Image)
    assert large.size == (16, 16)
