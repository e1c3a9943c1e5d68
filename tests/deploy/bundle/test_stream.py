"""Files of a bundle are named by what was written to them, however it was written."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bundle import Bundle, BundleWriter
from deploy.errors import BundleError
from tests.deploy.bundle.small_bundle import manifest_of, tree, write_bundle


@given(pieces=st.lists(st.binary(max_size=50), max_size=5))
def test_a_file_written_in_pieces_is_the_file_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    with BundleWriter.create(tmp_path_factory.mktemp("pieces") / "x.bundle") as writer:
        with writer.open_file("w", "bin") as stream:
            offsets = []
            for piece in pieces:
                offsets.append(stream.tell())
                assert stream.write(piece) == len(piece)
        assert stream.tell() == len(b"".join(pieces))
        assert offsets == [len(b"".join(pieces[:index])) for index in range(len(pieces))]
        assert stream.name == writer.add_bytes("w", "bin", b"".join(pieces))
        bundle = writer.commit(manifest_of(samples=[stream.name]))
    assert Bundle.open(bundle.path).file(stream.name).read_bytes() == b"".join(pieces)


def test_the_memory_of_an_array_can_be_written_without_a_copy(tmp_path: Path) -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    with BundleWriter.create(tmp_path / "x.bundle") as writer:
        with writer.open_file("w", "bin") as stream:
            assert stream.write(weights.data) == 24
        assert stream.name == writer.add_bytes("w", "bin", weights.tobytes())


@pytest.mark.parametrize("array", [np.float32(3.5), np.zeros((0, 3)), np.arange(6).reshape(2, 3).T, np.ones(2, ">f4")])
def test_equal_arrays_give_equal_files(tmp_path: Path, array: np.ndarray) -> None:
    array = np.asarray(array)
    same = np.array(array.tolist(), dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    with BundleWriter.create(tmp_path / "x.bundle") as writer:
        name = writer.add_array("t", array)
        assert writer.add_array("t", same) == name
        bundle = writer.commit(manifest_of(tables={"t": name}))
    read = bundle.table("t")
    assert read.shape == array.shape
    assert np.array_equal(read, array)


def test_a_copied_file_has_the_same_name_as_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 5000)  # more than one piece
    with BundleWriter.create(tmp_path / "x.bundle") as writer:
        name = writer.add_file("w", "bin", tmp_path / "big")
        assert writer.add_bytes("w", "bin", bytes(range(256)) * 5000) == name


def test_a_file_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    with (
        BundleWriter.create(tmp_path / "x.bundle") as writer,
        pytest.raises(BundleError, match=r"copying .*gone\.png into .*failed: No such file"),
    ):
        writer.add_file("s", "png", tmp_path / "gone.png")


class FullDisk(io.FileIO):
    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_bundle(tmp_path / "a.bundle")
    before = tree(tmp_path)
    with BundleWriter.update(bundle) as writer:
        monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedWriter(FullDisk(path, mode.replace("b", ""))))
        for size in (10, 100_000):  # noticed when flushed, noticed when written
            with pytest.raises(BundleError, match=r"No space left on device\. Make room.*before is unchanged"):
                writer.add_bytes("w", "bin", bytes(size))
        monkeypatch.undo()
    assert tree(tmp_path) == before
