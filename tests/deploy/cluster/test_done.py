"""The list of what is done: rows in files, looked up together with a listing."""

import time
from pathlib import Path

import numpy as np
import pytest

from deploy.cluster import done
from deploy.cluster.done import DoneList, hash_of_making, hash_of_result
from deploy.cluster.places import Listed, Place
from deploy.errors import FolderError

Results = list[tuple[str, int]]


def making(number: int, *, size: int = 5, settings: bytes = b"s") -> tuple[int, int]:
    return hash_of_making(Listed(f"{number}.png", size, 7), "in", settings)


def found(rows: DoneList, makings: list[tuple[int, int]], there: Results) -> list[str | None]:
    """Name of a result of each making; None where it is not done."""
    hashes = np.array([hash_of_result(*result) for result in there], np.uint64)
    order = np.argsort(hashes)
    where = rows.where_done(np.array(makings, np.uint64).T, hashes[order])
    return [None if position < 0 else there[order[position]][0] for position in where]


def test_what_was_added_is_found_by_the_next_run_if_its_results_are_there(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    first = DoneList.open(place)
    for number in range(20):
        first.add(making(number), [(f"{number}_x2.png", number)])
        first.write()  # a file each, as by twenty runs
    first.add(making(20), [("a.png", 1), ("b.png", 2)])
    first.close()
    assert len(list((tmp_path / done.FOLDER).iterdir())) == 1  # put together
    first.add(making(21), [("c.png", 1)])
    first.add(making(0), [("0_x2.png", 0)])  # once more, as after a lost list
    first.close()

    again = DoneList.open(place)
    assert again.rows.shape == (4, 23)
    there = [(f"{number}_x2.png", number) for number in range(20)] + [("a.png", 1), ("c.png", 1)]
    asked = [making(number) for number in range(23)]
    names = [f"{number}_x2.png" for number in range(20)]
    assert found(again, asked, there) == [*names, None, "c.png", None]  # of 20 one result is gone
    assert found(again, asked, [*there, ("b.png", 2)])[20] in ("a.png", "b.png")
    assert found(again, asked, [("3_x2.png", 4)])[3] is None  # it was changed
    assert found(again, [making(3, size=6), making(3, settings=b"t")], there) == [None, None]
    assert found(again, asked, []) == [None] * 23


def test_a_long_run_that_is_killed_leaves_few_files_which_are_read_while_others_join_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(done, "JOINED_AFTER", 4)
    place = Place(str(tmp_path))
    killed = DoneList.open(place)
    for number in range(10):
        killed.add(making(number), [(f"{number}.png", 1)])
        killed.write()
    assert [DoneList.open(place).rows.shape, len(list((tmp_path / done.FOLDER).iterdir()))] == [(4, 10), 4]

    read, joining = Place.read, iter([True])

    def read_while_files_are_joined(self: Place, name: str) -> bytes:
        if next(joining, False):
            killed._replace(killed._files, [killed.rows, *killed._added])
        return read(self, name)

    monkeypatch.setattr(Place, "read", read_while_files_are_joined)
    there = [(f"{number}.png", 1) for number in range(10)]
    assert found(DoneList.open(place), [making(number) for number in range(11)], there) == [
        *(name for name, _ in there),
        None,
    ]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / done.FOLDER
    folder.mkdir(parents=True)
    for content in (b"", b"\x93NUMPY junk"):
        (folder / "1.npy").write_bytes(content)
        with pytest.raises(FolderError, match=r"1\.npy: it is damaged. Delete it"):
            DoneList.open(Place(str(tmp_path)))
    np.save(folder / "1.npy", np.array([[2, 1]] * 4, np.uint64))  # not in order
    with pytest.raises(FolderError, match="it is damaged"):
        DoneList.open(Place(str(tmp_path)))


@pytest.mark.slow
@pytest.mark.long
def test_ten_million_rows_are_opened_and_looked_up_in_two_seconds(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    rows = np.random.default_rng(0).integers(0, 1 << 63, (4, 10_000_000), np.uint64)
    rows[3] = 1
    DoneList(place)._store(rows[:, np.argsort(rows[0])])
    results = np.sort(rows[2])
    began = time.perf_counter()
    opened = DoneList.open(place)
    where = opened.where_done(rows[:2, :1000], results)
    assert time.perf_counter() - began < 2 and (where >= 0).all()
    assert opened.rows.nbytes < 1 << 30
