"""Workflows of GitHub: no more rights than they need, actions by hash, and commands that exist."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS: dict[str, Any] = {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
BESIDE = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
"""Where commands of this environment are, and others."""

JOBS = [(name, job, content) for name, flow in WORKFLOWS.items() for job, content in flow["jobs"].items()]
STEPS = [(name, job, step) for name, job, content in JOBS for step in content["steps"]]


def test_only_the_job_that_publishes_may_more_than_read() -> None:
    assert WORKFLOWS.keys() == {"ci.yml", "release.yml"}
    assert all(flow["permissions"] == {"contents": "read"} for flow in WORKFLOWS.values())
    more = {(name, job): content["permissions"] for name, job, content in JOBS if "permissions" in content}
    assert more == {("release.yml", "publish"): {"id-token": "write"}}
    assert "secrets." not in "".join(path.read_text() for path in FOLDER.iterdir())
    publish = [step.get("uses", step.get("run", "")) for name, job, step in STEPS if job == "publish"]
    assert not any("checkout" in text or "make " in text or "python" in text for text in publish)
    assert all(content["timeout-minutes"] <= 90 for _, _, content in JOBS)


def test_actions_are_named_by_commit_and_keep_no_credentials() -> None:
    for name, job, step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]), (name, job, step)
        if "checkout" in step.get("uses", ""):
            assert step["with"] == {"persist-credentials": False}
    lines = [line for path in FOLDER.iterdir() for line in path.read_text().splitlines() if "uses:" in line]
    assert all(re.search(r"# v\d+\.\d+\.\d+$", line) for line in lines)


def test_targets_and_pythons_are_those_of_the_project() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {target for _, _, step in STEPS for target in re.findall(r"make ([\w-]+)", step.get("run", ""))}
    assert {"check", "test", "test-slow", "docs", "release"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r"3\.\d+$", line)]
    assert WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons
    assert project["requires-python"] == f">={pythons[0]}"


def test_zizmor_finds_nothing() -> None:
    program = shutil.which("zizmor", path=BESIDE) or pytest.skip(
        "zizmor is not installed; `make test` installs it on Linux"
    )
    done = subprocess.run(
        [program, "--offline", "--no-progress", "--quiet", ".github"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
