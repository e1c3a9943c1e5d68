"""What an installation brings: locked to hashes, under licences that are allowed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from releasing.licences import ALLOWED, CARRIED, FOR_GPUS, licence_of, normal_name, obstacles, packages_of
from releasing.locks import FOLDER, LOCKS

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_TIME = frozenset({"cpu", "openvino", "export", "quantize", "images", "serve", "hub", "report"})
"""Extras that `make test` installs."""


def pins(text: str) -> dict[str, str]:
    return {normal_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^ ;\n]+)", text, re.MULTILINE)}


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_every_package_of_a_lock_has_hashes_and_the_version_that_is_tested(name: str) -> None:
    text = (FOLDER / name).read_text()
    locked, tested = pins(text), pins((ROOT / "constraints.txt").read_text())
    assert text.startswith(f"# Written by `make locks`: {LOCKS[name].what}.")
    blocks = re.split(r"\n(?=[\w.-]+==)", text)[1:]
    assert len(blocks) == len(locked) and all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    # colorama and the CUDA libraries are for systems that the tests do not run on.
    assert {package for package in locked if tested.get(package, locked[package]) != locked[package]} == set()
    wanted = [line for extra in LOCKS[name].extras for line in PROJECT["optional-dependencies"][extra]]
    wanted += PROJECT["dependencies"] if LOCKS[name].extras else []
    wanted += [line for path in LOCKS[name].more for line in (ROOT / path).read_text().splitlines()]
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[normal_name(requirement.name)])


def test_every_package_of_the_run_time_has_an_allowed_licence() -> None:
    packages = packages_of(RUN_TIME)
    assert {"numpy", "torch", "onnxruntime", "openvino", "starlette", "tqdm", "openimageio"} <= packages.keys()
    licences = {name: licence_of(package) for name, package in packages.items() if not name.startswith(FOR_GPUS)}
    assert {name: told for name, told in licences.items() if [*obstacles(told)]} == {}
    assert CARRIED.keys() <= packages.keys()


def test_what_carries_the_gpl_is_in_no_image() -> None:
    for name in ("image.txt", "cuda.txt"):
        assert "pillow-heif" not in pins((FOLDER / name).read_text())


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("MIT", []),
        ("GPL-3.0-only OR MIT", []),
        ("GPL-3.0-only AND MIT", ["GPL-3.0-only"]),
        ("(Apache-2.0 OR BSD-2-Clause) AND AGPL-3.0-only", ["AGPL-3.0-only"]),
        ("nothing", ["nothing"]),
    ],
)
def test_a_licence_that_is_not_allowed_is_named(expression: str, named: list[str]) -> None:
    assert [*obstacles(expression)] == named
    assert "GPL-3.0-only" not in ALLOWED
