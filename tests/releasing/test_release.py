"""A release: the version said once, the same bytes from the same commit, and a wheel that works alone."""

import io
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

import deploy
from releasing.bill import without_places
from releasing.build import ReleaseError, build, normalised, run
from releasing.pythons import pythons_here
from releasing.smoke import NOT_TRIED, TRIALS

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_said_in_one_place_and_the_others_agree() -> None:
    assert "version" in PROJECT["dynamic"] and "version" not in PROJECT
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {newest, citation["version"]} == {deploy.__version__}
    assert citation["cff-version"] == "1.2.0" and citation["license"] == PROJECT["license"]


def test_each_extra_is_tried_with_a_release_or_a_reason_stands() -> None:
    assert TRIALS.keys() | NOT_TRIED.keys() == PROJECT["optional-dependencies"].keys()
    assert not TRIALS.keys() & NOT_TRIED.keys()


def packed(names: list[str], *, mtime: int, mode: int, owner: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode, member.uname = len(name), mtime, mode, owner
            tar.addfile(member, io.BytesIO(name.encode()))
    return made.getvalue()


def test_an_sdist_forgets_who_packed_it_when_and_in_which_order() -> None:
    one = normalised(packed(["a/b", "a/c"], mtime=1, mode=0o600, owner="me"), 5)
    other = normalised(packed(["a/c", "a/b"], mtime=2, mode=0o664, owner="you"), 5)
    assert one == other
    with tarfile.open(fileobj=io.BytesIO(one)) as tar:
        assert [(member.name, member.mtime, member.mode) for member in tar] == [("a/b", 5, 0o644), ("a/c", 5, 0o644)]
        file = tar.extractfile("a/c")
        assert file is not None and file.read() == b"a/c"


def test_a_bill_names_no_folder_of_the_machine() -> None:
    bill = {"components": [{"name": "a", "externalReferences": [{"url": "file:///home/a.whl"}, {"url": "https://a"}]}]}
    assert without_places(bill) == {"components": [{"name": "a", "externalReferences": [{"url": "https://a"}]}]}


def test_a_command_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"git log nowhere failed with exit code 128:\nfatal: "):
        run(["git", "log", "nowhere"], tmp_path)


def program(path: Path, words: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {words}\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="programs of the test are shell scripts")
def test_the_pythons_of_a_machine_are_those_that_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pyenv's names that start nothing, nor a Python that says it is another, nor a version too old."""
    commands, kept = tmp_path / "bin", tmp_path / "pyenv" / "versions"
    program(commands / "python3.10", "3.10")
    program(commands / "python3.11", "3.10")
    program(commands / "python3.12", "not found", code=127)
    program(kept / "3.12.9" / "bin" / "python", "3.12")
    newest = program(kept / "3.12.10" / "bin" / "python", "3.12")
    program(kept / "3.13.0" / "bin" / "python", "3.13")
    found = program(commands / "python3.13", "3.13")
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert pythons_here() == {"3.12": newest, "3.13": found}


@pytest.mark.slow
def test_two_clones_of_a_commit_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit without the large files, which only cost time; the clones differ in place, rights and time zone."""
    pytest.importorskip("build", reason="needs the extra release, which `make test-slow` installs")
    one, other = tmp_path / "one", tmp_path / "elsewhere" / "other"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    run(["git", "clone", "--quiet", str(ROOT), str(one)], tmp_path)
    run(["git", "rm", "-rq", "tests", "docs/images", "deploy/packaged/checkpoints", "deploy/packaged/bundles"], one)
    run([*git, "commit", "--quiet", "--message", "Leave out what is large"], one)
    run(["git", "clone", "--quiet", str(one), str(other)], tmp_path)
    first = build(one, "HEAD", tmp_path / "first")
    (other / "deploy" / "left_behind.py").write_text("not committed\n")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    subprocess.run(["chmod", "-R", "go-rwx", str(other)], check=True)
    second = build(other, "HEAD", tmp_path / "second")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    with tarfile.open(first[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "MANIFEST.in", "constraints.txt", "docs/cli.md", "deploy/packaged/MODEL_CARD_idm.md"} <= names
    assert "deploy/left_behind.py" not in names


@pytest.mark.long
@pytest.mark.slow
def test_a_release_works_alone_with_every_extra_on_every_python(tmp_path: Path) -> None:
    """Wheel, sdist, bill and hashes, from a new environment for each extra to a picture, int8 or a service.

    On each Python of this machine, and pictures are the same to the byte on all of them.
    """
    pytest.importorskip("cyclonedx_py", reason="needs the extra release, which `make test-long` installs")
    told = run(["make", "release", f"RELEASE={tmp_path / 'dist'}", "EXTRAS=--extras", "PYTHONS=--pythons"], ROOT)
    for version in {"{}.{}".format(*sys.version_info), *pythons_here()}:
        assert told.count(f"alone in a new environment of Python {version}.") == len(TRIALS)
    assert {path.suffix for path in (tmp_path / "dist").iterdir()} == {".whl", ".gz", ".json", ""}
