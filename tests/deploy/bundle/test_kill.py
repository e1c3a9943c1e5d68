"""A writer ended at any file operation leaves the old bundle or the new one, whole; the next run tidies up."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bundle import Bundle
from tests.deploy.bundle.killed_writer import SCENARIOS
from tests.deploy.bundle.small_bundle import tree, write_bundle

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked on Windows")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tree(write_bundle(tmp_path_factory.mktemp("old") / "x.bundle").path)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tree(write_bundle(tmp_path_factory.mktemp("new") / "x.bundle", b"second").path)


def runs_ended_everywhere(scenario: str, ending: str, folder: Path) -> list[Path]:
    """The folder around `x.bundle` of each run; the last run finished."""
    command = [sys.executable, "-m", "tests.deploy.bundle.killed_writer", scenario, ending, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    runs = sorted(folder.iterdir(), key=lambda run: int(run.name))
    assert len(runs) > 12  # five files, each opened and renamed, then the folder around them
    return runs


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_moment_leaves_a_whole_bundle_or_none(
    tmp_path: Path, scenario: str, old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    runs = runs_ended_everywhere(scenario, "kill", tmp_path)
    for run in runs:
        path = run / "x.bundle"
        if scenario == "new" and not path.exists():
            continue
        found = tree(Bundle.open(path).path)
        assert old.items() <= found.items() or new.items() <= found.items()
    assert tree(runs[-1] / "x.bundle") == (old if scenario == "fail" else new)

    for run in runs:
        write_bundle(run / "x.bundle", b"second", force=True)
        assert tree(run / "x.bundle") == new
        assert [path.name for path in run.iterdir()] == ["x.bundle"]


@pytest.mark.parametrize("scenario", ["new", "force", "update"])
def test_ctrl_c_at_any_moment_leaves_the_old_state_or_the_new_one(
    tmp_path: Path, scenario: str, old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    before = [] if scenario == "new" else [old]
    runs = runs_ended_everywhere(scenario, "interrupt", tmp_path)
    for run in runs[:-1]:
        if not (run / "x.bundle").exists():
            assert not before
            assert list(run.iterdir()) == []
            continue
        Bundle.open(run / "x.bundle")
        assert [path.name for path in run.iterdir()] == ["x.bundle"]
        assert tree(run / "x.bundle") in [*before, new] or is_tidying_interrupted(run, runs, new)


def is_tidying_interrupted(run: Path, runs: list[Path], new: dict[str, bytes]) -> bool:
    """Ctrl-C came while replaced files were being removed, the last operations of all: the new bundle is in place."""
    return runs.index(run) >= len(runs) - 6 and new.items() <= tree(run / "x.bundle").items()
