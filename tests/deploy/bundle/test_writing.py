"""Writing leaves the old bundle or the new one, never a mixture, and nothing besides."""

import errno
import math
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.locking import DirectoryLock
from deploy.bundle.records import Preset
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import add_everything, manifest_of, tree, write_bundle


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_bundle(tmp_path / "a.bundle"), write_bundle(tmp_path / "b.bundle")
    assert tree(first.path) == tree(second.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bundle", "b.bundle"]


def test_a_new_bundle_is_as_readable_as_any_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    made = write_bundle(tmp_path / "a.bundle").path
    assert made.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_existing_bundle_is_refused_without_force(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    before = tree(tmp_path)
    with pytest.raises(BundleError, match=r"a\.bundle already exists\. Use --force"):
        BundleWriter.create(path)
    assert tree(tmp_path) == before


def test_force_replaces_the_bundle_and_leaves_what_a_user_put_there(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    (path / "notes.txt").write_text("mine")
    write_bundle(path, b"second", force=True)
    expected = tree(write_bundle(tmp_path / "b.bundle", b"second").path)
    assert tree(path) == expected | {"notes.txt": b"mine"}


def test_force_replaces_a_bundle_that_cannot_be_opened(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.bundle").path
    (path / "bundle.json").write_bytes(b"{")
    write_bundle(path, b"second", force=True)
    assert tree(path) == tree(write_bundle(tmp_path / "b.bundle", b"second").path)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_bundle_is_never_overwritten(tmp_path: Path, kind: str, force: bool) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "photo.png").write_text("mine")
    with pytest.raises(BundleError, match="something that is not a bundle is there"):
        BundleWriter.create(path, force=force)


def test_an_empty_folder_may_become_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert Bundle.open(write_bundle(tmp_path / "x").path).manifest.family == "idm"


def test_the_folder_around_must_exist(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the folder .*gone does not exist"):
        BundleWriter.create(tmp_path / "gone" / "x.bundle")


def write_half_and_raise(writer: BundleWriter, failure: type[BaseException]) -> None:
    with writer:
        add_everything(writer, b"second")
        with writer.open_file("half", "bin") as stream:
            stream.write(b"half")
            raise failure


def commit_and_raise(writer: BundleWriter) -> None:
    with writer:
        writer.commit(add_everything(writer, b"second"))
        raise RuntimeError


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("start", ["new", "force", "update"])
def test_nothing_is_left_behind_by_an_exception(tmp_path: Path, start: str, failure: type[BaseException]) -> None:
    path = tmp_path / "a.bundle"
    old = None if start == "new" else write_bundle(path)
    before = tree(tmp_path)
    writer = BundleWriter.update(old) if old and start == "update" else BundleWriter.create(path, force=True)
    with pytest.raises(failure):
        write_half_and_raise(writer, failure)
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ([] if start == "new" else ["a.bundle"])


def test_a_writer_without_commit_leaves_nothing(tmp_path: Path) -> None:
    with BundleWriter.create(tmp_path / "a.bundle") as writer:
        add_everything(writer)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_after_commit_keeps_the_bundle(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "a.bundle")
    expected = tree(write_bundle(tmp_path / "expected.bundle", b"second").path)
    for writer in (BundleWriter.create(tmp_path / "b.bundle"), BundleWriter.update(old)):
        with pytest.raises(RuntimeError):
            commit_and_raise(writer)
    assert tree(old.path) == tree(tmp_path / "b.bundle") == expected


def test_an_update_keeps_what_is_still_mentioned_and_drops_the_rest(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "a.bundle")
    with BundleWriter.update(old) as writer:
        int8 = writer.add_bytes("int8", "onnx", b"quantized")
        graph = msgspec.structs.replace(old.manifest.graphs["denoise"], forms={"int8": int8}, weights=())
        new = writer.commit(replace(old.manifest, graphs={"denoise": graph}))
    kept = {"bundle.json", int8, *old.manifest.tables.values(), *old.manifest.samples}
    assert set(tree(new.path)) == kept
    assert set(new.manifest.files) == kept - {"bundle.json"}
    assert Bundle.open(new.path) == new


def test_an_update_never_undoes_another(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "a.bundle")
    newer = write_bundle(old.path, b"second", force=True)
    with pytest.raises(BundleError, match="changed by another process since it was opened"):
        BundleWriter.update(old).__enter__()
    assert Bundle.open(old.path) == newer


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    with (
        BundleWriter.update(bundle),
        pytest.raises(BundleError, match="another process is writing to"),
        BundleWriter.create(bundle.path, force=True),
    ):
        pass
    with BundleWriter.update(bundle):
        pass


def test_of_two_exports_to_one_place_the_first_to_finish_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.bundle"
    with BundleWriter.create(path) as slow:
        manifest = add_everything(slow, b"slow")
        quick = write_bundle(path, b"quick")  # removes leftovers, but not those of the living
        with pytest.raises(BundleError, match="Another process has made it meanwhile"):
            slow.commit(manifest)
    assert Bundle.open(path) == quick
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


def test_leftovers_of_dead_exports_go_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".a.bundle.partial-0123").mkdir()
    (tmp_path / ".a.bundle.partial-0123" / "x.bin").write_bytes(b"half")
    (tmp_path / ".b.bundle.partial-0123").mkdir()
    (tmp_path / ".a.bundle.partial-file").write_bytes(b"not a folder: not ours")
    write_bundle(tmp_path / "a.bundle")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.bundle", ".b.bundle.partial-0123", ".a.bundle.partial-file"}


def test_without_certain_locks_leftovers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EBADF, "no locks on this file system")

    monkeypatch.setattr("fcntl.flock", unsupported)
    (tmp_path / ".a.bundle.partial-0123").mkdir()
    bundle = write_bundle(tmp_path / "a.bundle")
    assert not DirectoryLock(tmp_path).certain
    assert (tmp_path / ".a.bundle.partial-0123").is_dir()
    assert write_bundle(bundle.path, b"second", force=True).clean() == []


def test_temporary_files_of_a_dead_update_go_with_the_next_one(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    before = tree(tmp_path)
    (bundle.path / ".partial-0123").write_bytes(b"half")
    (bundle.path / "bundle.json.tmp").symlink_to(tmp_path / "elsewhere")
    with BundleWriter.update(bundle) as writer:
        writer.commit(bundle.manifest)
    assert tree(tmp_path) == before


def test_too_little_disk_is_refused_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 0, 3_000_000))
    with BundleWriter.create(tmp_path / "a.bundle") as writer:
        writer.reserve_space(3_000_000)
        with pytest.raises(BundleError, match=r"needs 3\.1 MB and the disk has 3\.0 MB free"):
            writer.reserve_space(3_100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_refuses_writing_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(BundleError, match=r"writing .*failed: Permission denied\. Check the path"):
        BundleWriter.create(tmp_path / "a.bundle").__enter__()


def test_a_manifest_that_needs_an_unwritten_file_is_refused(tmp_path: Path) -> None:
    with (
        BundleWriter.create(tmp_path / "a.bundle") as writer,
        pytest.raises(BundleError, match=r"samples names gone\.png, which its files do not list"),
    ):
        writer.commit(manifest_of(samples=["gone.png"]))
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_the_caller_are_named(tmp_path: Path) -> None:
    writer = BundleWriter.create(tmp_path / "a.bundle")
    with pytest.raises(ValueError, match="inside its `with` block only"):
        writer.add_bytes("w", "bin", b"")
    with writer:
        name = writer.add_bytes("w", "bin", b"")
        with pytest.raises(ValueError, match="files were added that the manifest does not mention: w-"):
            writer.commit(manifest_of())
        stream = writer.open_file("w", "bin")
        with pytest.raises(ValueError, match="a BundleStream is written inside"):
            stream.write(b"")
        with stream, pytest.raises(ValueError, match="leave the `with` block first"):
            _ = stream.name
        writer.commit(manifest_of(samples=[name]))
        with pytest.raises(ValueError, match="commit was already called"):
            writer.commit(manifest_of(samples=[name]))


def test_releasing_a_lock_twice_is_harmless(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    lock.release()
    lock.release()
    assert DirectoryLock(tmp_path).certain


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"presets": {"balanced": Preset(equation="ddim", steps=0)}}, "presets.balanced.steps is 0, expected a whole"),
        (
            {"presets": {"balanced": Preset(equation="ddim", steps=1).with_measured("taste", math.nan)}},
            "presets.balanced.measured_taste is nan, and JSON has no such number",
        ),
        ({"tables": {"t": "gone.npy"}}, "table t names gone.npy, which its files do not list"),
    ],
)
def test_what_code_made_wrong_is_refused_before_it_is_written(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    before = tree(bundle.path)
    with BundleWriter.update(bundle) as writer, pytest.raises(BundleError, match=sentence):
        writer.commit(replace(bundle.manifest, **changes))
    assert tree(bundle.path) == before
