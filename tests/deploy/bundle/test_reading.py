"""A bundle opens only if it is exactly what was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bundle import Bundle, BundleWriter
from deploy.bundle.locking import DirectoryLock
from deploy.bundle.naming import MANIFEST_NAME
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import TABLE, manifest_of, tree, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "ckpt.bundle")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that property tests change and restore."""
    return write_bundle(tmp_path_factory.mktemp("whole") / "ckpt.bundle").path


def file_of(bundle: Bundle, stem: str) -> Path:
    return next(path for path in bundle.path.iterdir() if path.name.startswith(stem))


def change_manifest(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle.path / MANIFEST_NAME
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


def test_everything_written_is_read_back(bundle: Bundle) -> None:
    opened = Bundle.open(str(bundle.path))
    assert opened == bundle
    assert opened.graph("denoise", "plain").read_bytes().startswith(b"graph that names weights-")
    assert [path.read_bytes() for path in opened.sample_images()] == [b"picture"]
    assert opened.file(opened.manifest.graphs["denoise"].weights[0]).read_bytes() == b"first"
    table = opened.table("noise_levels")
    assert table.dtype == np.float32
    assert np.array_equal(table, TABLE)


@given(data=st.data())
def test_any_flipped_bit_of_any_listed_file_is_detected(whole: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in whole.iterdir() if path.name != MANIFEST_NAME)))
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(flipped)
    try:
        with pytest.raises(BundleError, match=rf"{path.name} has SHA-256 .* instead of .*Copy the bundle here again"):
            Bundle.open(whole)
        assert Bundle.open(whole, verify="sizes").path == whole  # the size is the same: only the hash tells
    finally:
        path.write_bytes(content)


@given(cut=st.integers(1, 400))
def test_a_truncated_manifest_is_refused(whole: Path, cut: int) -> None:
    path = whole / MANIFEST_NAME
    content = path.read_bytes()
    path.write_bytes(content[: -1 - cut])
    try:
        with pytest.raises(BundleError, match=r"bundle\.json is not JSON"):
            Bundle.open(whole)
    finally:
        path.write_bytes(content)


def test_a_missing_file_and_a_wrong_size_are_named_together(bundle: Bundle) -> None:
    file_of(bundle, "denoise").unlink()
    file_of(bundle, "sample").write_bytes(b"longer than before")
    with pytest.raises(BundleError, match=r"denoise-\w+\.onnx is missing; sample-\w+\.png has 18 bytes instead of 7"):
        Bundle.open(bundle.path, verify="sizes")


def test_much_damage_is_summed_up(tmp_path: Path) -> None:
    with BundleWriter.create(tmp_path / "many.bundle") as writer:
        samples = [writer.add_bytes("sample", "png", bytes([index])) for index in range(8)]
        bundle = writer.commit(manifest_of(samples=samples))
    for path in bundle.sample_images():
        path.unlink()
    with pytest.raises(BundleError, match=r"is missing; and 3 more\. Copy"):
        Bundle.open(bundle.path)


def test_a_link_in_place_of_a_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = file_of(bundle, "weights")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"weights-\w+\.bin is not a plain file, and links are not followed"):
        Bundle.open(bundle.path)


def test_a_file_that_cannot_be_read_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("deploy.bundle.reading.sha256_of_file", fail)  # tests may run as root, who may read all
    with pytest.raises(BundleError, match=r"cannot be read \(Permission denied\)"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("name", ["../outside-0123456789abcdef.bin", "/etc/passwd", "sub/x-0123456789abcdef.bin"])
def test_a_manifest_cannot_point_outside(bundle: Bundle, name: str) -> None:
    change_manifest(bundle, lambda data: data["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(BundleError, match="is not the name of a file in the bundle"):
        Bundle.open(bundle.path)


def test_a_graph_that_names_an_unlisted_file_is_refused(bundle: Bundle) -> None:
    change_manifest(bundle, lambda data: data["graphs"]["denoise"]["forms"].update(other="/etc/passwd"))
    with pytest.raises(BundleError, match="graph denoise names /etc/passwd, which its files do not list"):
        Bundle.open(bundle.path)


def test_a_newer_schema_is_refused_with_the_path(bundle: Bundle) -> None:
    change_manifest(bundle, lambda data: data.update(schema=2))
    with pytest.raises(BundleError, match=r"cannot open .*ckpt\.bundle: it has bundle schema 2"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("kind", ["nothing", "folder", "file"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_bytes(b"")
    with pytest.raises(BundleError, match=r"(is not a bundle|does not exist).*idm-deploy export "):
        Bundle.open(path)


def test_a_manifest_that_is_a_link_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / MANIFEST_NAME).rename(tmp_path / "real.json")
    (bundle.path / MANIFEST_NAME).symlink_to(tmp_path / "real.json")
    with pytest.raises(BundleError, match=r"bundle\.json is not a plain file"):
        Bundle.open(bundle.path)


def test_a_huge_manifest_is_refused_unread(bundle: Bundle) -> None:
    with (bundle.path / MANIFEST_NAME).open("ab") as stream:
        stream.truncate(65 << 20)
    with pytest.raises(BundleError, match="more than any bundle needs"):
        Bundle.open(bundle.path)


def test_a_manifest_that_the_system_refuses_to_read_is_a_refusal(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read \(Permission denied\)\. Check its"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("depth", [70, 600, 100_000])
def test_a_deeply_nested_manifest_is_refused(bundle: Bundle, depth: int) -> None:
    text = (bundle.path / MANIFEST_NAME).read_text()
    nested = '"schedule": {"x": ' + "[" * depth + "]" * depth + ","
    (bundle.path / MANIFEST_NAME).write_text(text.replace('"schedule": {', nested, 1))
    with pytest.raises(BundleError, match="nested too deeply"):
        Bundle.open(bundle.path)


def test_a_misspelt_verification_is_never_a_weaker_one(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="verify is 'hashes'"):
        Bundle.open(bundle.path, verify="hashes")  # type: ignore[arg-type]


def test_unknown_names_are_answered_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no graph 'decode'; it has denoise\."):
        bundle.graph("decode", "plain")
    with pytest.raises(BundleError, match=r"no form 'int8' of graph denoise; it has plain\."):
        bundle.graph("denoise", "int8")
    with pytest.raises(BundleError, match=r"no table 'x'; it has noise_levels\."):
        bundle.table("x")
    with pytest.raises(BundleError, match=r"lists no file 'notes\.txt'"):
        bundle.file("notes.txt")


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\x0a\x00{'descr': "])
def test_a_table_that_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    with BundleWriter.create(tmp_path / "x.bundle") as writer:
        bundle = writer.commit(manifest_of(tables={"t": writer.add_bytes("t", "npy", content)}))
    with pytest.raises(BundleError, match=r"table t is not a \.npy array"):
        bundle.table("t")


def test_a_table_never_unpickles(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.array([{}], dtype=object), allow_pickle=True)
    with BundleWriter.create(tmp_path / "x.bundle") as writer:
        bundle = writer.commit(manifest_of(tables={"t": writer.add_file("t", "npy", tmp_path / "t.npy")}))
    with pytest.raises(BundleError, match=r"table t is not a \.npy array of numbers"):
        bundle.table("t")


def test_cleaning_removes_what_is_not_listed_and_nothing_else(bundle: Bundle) -> None:
    before = tree(bundle.path)
    (bundle.path / "notes.txt").write_text("mine")
    (bundle.path / ".partial-1234").write_text("half")
    (bundle.path / "link").symlink_to("/")
    (bundle.path / "folder").mkdir()
    (bundle.path / "folder" / "photo.png").write_bytes(b"kept")
    assert Bundle.open(bundle.path).unlisted() == [".partial-1234", "link", "notes.txt"]
    assert bundle.clean() == [".partial-1234", "link", "notes.txt"]
    assert tree(bundle.path) == before | {"folder/photo.png": b"kept"}
    assert bundle.clean() == []


def test_cleaning_keeps_what_was_committed_since_the_bundle_was_opened(bundle: Bundle) -> None:
    newer = write_bundle(bundle.path, b"second", force=True)
    assert bundle.clean() == []
    assert Bundle.open(bundle.path) == newer


def test_cleaning_waits_for_a_writer(bundle: Bundle) -> None:
    lock = DirectoryLock(bundle.path)
    try:
        with pytest.raises(BundleError, match="another process is writing to it; try again later"):
            bundle.clean()
    finally:
        lock.release()


def test_cleaning_reports_what_the_system_refuses(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle.path / "notes.txt").write_text("mine")

    def fail(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, f"Permission denied{'' if missing_ok else '!'}", str(path))

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(BundleError, match=r"cannot clean .*: Permission denied \(.*notes\.txt\)"):
        bundle.clean()
