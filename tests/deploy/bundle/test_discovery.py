"""The bundle that a command means."""

from pathlib import Path

import pytest

from deploy.bundle import discover
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import write_bundle


def test_the_folder_itself_comes_before_its_children(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    write_bundle(path / "inner.bundle")
    assert discover(path) == path


def test_the_only_child_is_found_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    (tmp_path / "photos").mkdir()
    (tmp_path / "bundle.txt").write_text("")
    write_bundle(tmp_path / ".b.bundle.partial-0123")  # as a killed export leaves it
    monkeypatch.chdir(tmp_path)
    assert discover() == path


def test_no_bundle_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"found no bundle in .*Name its folder, or make one with `idm-deploy export CKPT`"
    ):
        discover(tmp_path)


def test_several_bundles_are_listed(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.bundle")
    write_bundle(tmp_path / "a.bundle")
    with pytest.raises(BundleError, match=r"found 2 bundles in .*: a\.bundle, b\.bundle\. Name the one"):
        discover(tmp_path)


def test_a_named_bundle_is_taken_and_never_searched_in(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    write_bundle(tmp_path / "b.bundle")
    assert discover(tmp_path, explicit=str(path)) == path
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json"):
        discover(path, explicit=tmp_path)


def test_a_folder_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot look for a bundle in .*: No such file"):
        discover(tmp_path / "gone")


def test_the_fallback_stands_in_only_where_there_is_no_bundle(tmp_path: Path) -> None:
    packaged = tmp_path / "packaged"
    (tmp_path / "here").mkdir()
    assert discover(tmp_path / "here", fallback=packaged) == packaged
    path = write_bundle(tmp_path / "here" / "a.bundle").path
    assert discover(tmp_path / "here", fallback=packaged) == path
    write_bundle(tmp_path / "here" / "b.bundle")
    with pytest.raises(BundleError, match="found 2 bundles"):
        discover(tmp_path / "here", fallback=packaged)
    with pytest.raises(BundleError, match=r"does not exist\. Name the folder of a bundle"):
        discover(explicit=tmp_path / "none", fallback=packaged)
