"""Files of a bucket, of a disk and of fsspec's memory, by the same calls."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cluster.places import PARTS, Listed, Place, failure
from deploy.errors import FolderError
from tests.s3_server import Store, running_store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running_store() as running:
        yield running


@pytest.mark.parametrize("kind", ["bucket", "disk", "memory"])
def test_files_come_and_go_whole(kind: str, store: Store, tmp_path: Path) -> None:
    addresses = {"bucket": store.address("b/pictures"), "disk": str(tmp_path), "memory": "memory://pictures"}
    place = Place(addresses[kind])
    content = bytes(range(256)) * 1_000
    for name in ("a.png", ".hidden/d.png", ".e.png"):
        place.write(name, b"old")
    place.write("2024/b c.png", content)
    assert sorted((listed.name, listed.bytes) for listed in place.listing()) == [
        ("2024/b c.png", len(content)),
        ("a.png", 3),
    ]
    assert place.names_in("2024") == ["2024/b c.png"] and place.names_in("2025") == []
    assert place.read("2024/b c.png") == content
    assert place.kind() == "folder" and place.has("a.png") and not place.has("2024/a.png")
    folder, name = Place(addresses[kind].replace("pictures", "pictures/a.png")).parent()
    assert kind == "disk" or (folder, name) == (place, "a.png")
    (tmp_path / "file").write_bytes(b"new")
    place.store(tmp_path / "file", "a.png")
    for way in (place.fetch, place.copy):
        way("a.png", tmp_path / "came")
        assert (tmp_path / "came").read_bytes() == b"new"
        (tmp_path / "came").unlink()
    place.remove("a.png")
    place.remove("a.png")
    assert not place.has("a.png") and place.names_in(PARTS) == []
    with pytest.raises(FolderError, match=r"reading .*a\.png: it is not there, or not any more"):
        place.read("a.png")


def test_a_store_that_refuses_is_quoted_with_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(store.address("b/closed"))
    store.objects["b/closed/a.png"] = b"x"
    store.refused |= {"PUT", "LIST"}
    try:
        with pytest.raises(FolderError, match=r"writing s3://b/closed/b\.png: .*ACCESS_DENIED.* its own credentials"):
            place.write("b.png", b"x")
        with pytest.raises(FolderError, match=r"listing s3://b/closed: .*ACCESS_DENIED"):
            list(place.listing())
    finally:
        store.refused.clear()
    assert "b/closed/b.png" not in store.objects
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    with pytest.raises(FolderError, match=r"s3://b/else: .*its own credentials: check that they are there"):
        Place(store.address("b/else")).kind()


def test_what_is_no_place_is_refused_and_a_failure_names_its_reason(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="opening foo://b: Protocol not known: foo"):
        Place("foo://b").kind()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FolderError, match=r"writing .*file/a\.png: "):
        Place(str(tmp_path / "file")).write("a.png", b"")
    assert "not any more" in str(failure("reading a", FileNotFoundError(2, "No such file")))
    assert Place(str(tmp_path / "none")).kind() == "nothing"
    assert list(Place(str(tmp_path)).listing()) == [Listed("file", 0, (tmp_path / "file").stat().st_mtime_ns)]
