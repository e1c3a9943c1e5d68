"""What is done, in `.idm-deploy/done/` of an output: files of rows, each written once, so that a bucket can hold them.

A row says of one result: how it was made (a hash of its input's name, size and time, and of the request), under which
name and in how many bytes it lies there (another hash), and how many results that input has. A picture is done if the
rows of its making are all there, and each of their results is in the listing of the output. So nothing is read but the
rows and one listing; what was changed, or removed, is made again.

What a driver had not written down when it was killed is found by the note in each result, as in folders.
"""

import hashlib
import io
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deploy.cluster.places import Listed, Place
from deploy.errors import FolderError
from deploy.folders.search import OWN_FOLDER

FOLDER = f"{OWN_FOLDER}/done"

MOST_ROWS_AT_ONCE = 10_000
"""Rows after which a file of them is written, however little time has passed."""

SECONDS_BETWEEN_FILES = 5.0
"""A killed driver costs a look at the results of so many seconds."""

MOST_FILES = 16
"""Files of rows that a run leaves: more are put together into one."""

JOINED_AFTER = 64
"""Files of a run that are put together while it goes on, so that one killed after hours leaves few to be read."""

Rows = npt.NDArray[np.uint64]
"""(4, rows), sorted by the first: both halves of the making, the result, the number of results of the input."""


def hash_of_making(picture: Listed, place: str, settings: bytes) -> tuple[int, int]:
    """128 bits of an input, as it was listed, and of what is asked for."""
    text = f"{place}\0{picture.name}\0{picture.bytes}\0{picture.modified}\0".encode(errors="surrogateescape")
    digest = hashlib.blake2b(text + settings, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def hash_of_result(name: str, size: int) -> int:
    """64 bits of a result: its name in the output, and its bytes."""
    text = f"{name}\0{size}".encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass
class DoneList:
    """The list of one output. `open` reads what is there; rows that are added are written every few seconds."""

    place: Place
    rows: Rows = field(default_factory=lambda: np.empty((4, 0), np.uint64))
    _files: list[str] = field(default_factory=list)
    _recent: list[str] = field(default_factory=list)  # files of this run that were not put together yet
    _added: list[Rows] = field(default_factory=list)  # by this run, written: joined at its end, not every few seconds
    _new: list[tuple[int, int, int, int]] = field(default_factory=list)
    _written: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, place: Place) -> "DoneList":
        """What runs before this one have done."""
        while True:
            names = _files_of(place)
            try:
                parts = [_rows_of(place, name) for name in names]
                break
            except FolderError:
                if _files_of(place) == names:
                    raise  # else another run has put files together since they were listed
        return cls(place, parts[0] if len(parts) == 1 else _in_one(parts), names)

    def where_done(self, makings: Rows, results: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Of each making (2, pictures) the position of one of its results among those that the output holds, sorted.

        -1 where not all of them are there.
        """
        first = np.searchsorted(self.rows[0], makings[0], "left")
        last = np.searchsorted(self.rows[0], makings[0], "right")
        there = np.zeros(makings.shape[1], np.uint64)
        wanted = np.ones(makings.shape[1], np.uint64)
        where = np.full(makings.shape[1], -1, np.int64)
        for offset in range(int((last - first).max(initial=0))):
            here = np.flatnonzero(first + offset < last)
            _, half, result, count = self.rows[:, first[here] + offset]
            is_same = half == makings[1][here]
            position = np.minimum(np.searchsorted(results, result), max(len(results) - 1, 0))
            is_there = is_same & (results[position] == result if len(results) else False)
            there[here[is_there]] += np.uint64(1)
            where[here[is_there]] = position[is_there]
            wanted[here[is_same]] = count[is_same]
        return np.where(there >= wanted, where, -1)

    def add(self, making: tuple[int, int], results: Sequence[tuple[str, int]]) -> None:
        """A picture is done: its results, by name and bytes, lie in their places."""
        self._new += [(*making, hash_of_result(*result), len(results)) for result in results]
        if len(self._new) >= MOST_ROWS_AT_ONCE or time.monotonic() - self._written > SECONDS_BETWEEN_FILES:
            self.write()

    def write(self) -> None:
        """All that was added is in the output."""
        self._written = time.monotonic()
        if not self._new:
            return
        new = _in_order(np.array(self._new, np.uint64).T)
        self._store(new)
        self._recent.append(self._files[-1])
        self._added.append(new)
        self._new = []
        if len(self._recent) >= JOINED_AFTER:
            parts = self._added[-len(self._recent) :]
            del self._added[-len(self._recent) :]
            self._added.append(self._replace(self._recent, parts))
            self._recent = []

    def close(self) -> None:
        """The same, in few files."""
        self.write()
        if len(self._files) <= MOST_FILES:
            return
        parts, self._added = [self.rows, *self._added], []
        self.rows = np.empty((4, 0), np.uint64)  # nothing else holds the rows while they are joined
        self.rows = self._replace(self._files, parts)
        self._recent = []

    def _replace(self, before: Sequence[str], parts: list[Rows]) -> Rows:
        """The rows of these files, in one file instead: at no moment are they in none."""
        rows, gone = _in_one(parts), set(before)
        self._store(rows)
        self._files = [name for name in self._files if name not in gone]
        for name in sorted(gone):
            self.place.remove(name)
        return rows

    def _store(self, rows: Rows) -> None:
        name = f"{FOLDER}/{time.time_ns():020d}-{secrets.token_hex(4)}.npy"
        content = io.BytesIO()
        np.lib.format.write_array(content, np.ascontiguousarray(rows), allow_pickle=False)
        self.place.write(name, content.getvalue())
        self._files.append(name)


def _in_one(parts: list[Rows]) -> Rows:
    """The rows of all parts as `_in_order` has them; the list is empty afterwards, so that memory holds them once."""
    whole = np.empty((4, sum(part.shape[1] for part in parts)), np.uint64)
    filled = 0
    while parts:
        part = parts.pop()
        whole[:, filled : filled + part.shape[1]] = part
        filled += part.shape[1]
    return _in_order(whole)


def _in_order(rows: Rows) -> Rows:
    """The rows sorted, in place, and each of them once."""
    if rows.shape[1] < 2:
        return rows
    order = np.argsort(rows[0], kind="stable")  # merges parts that are sorted
    for column in rows:
        column[:] = column[order]
    same = np.flatnonzero(rows[0, 1:] == rows[0, :-1])
    if not len(same):
        return rows
    rows = rows[:, np.lexsort(rows[2::-1])]
    is_new = np.ones(rows.shape[1], bool)
    is_new[1:] = (rows[:3, 1:] != rows[:3, :-1]).any(axis=0)
    return rows[:, is_new]


def _files_of(place: Place) -> list[str]:
    return [name for name in place.names_in(FOLDER) if name.endswith(".npy")]


def _rows_of(place: Place, name: str) -> Rows:
    content = place.read(name)
    head = io.BytesIO(content[:256])
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise _damaged(place, name)
        shape, _, kind = np.lib.format.read_array_header_1_0(head)
        # The rows where they were read to, without a copy.
        rows = np.frombuffer(content, kind, offset=head.tell()).reshape(shape)
    except (ValueError, SyntaxError, EOFError) as error:
        raise _damaged(place, name) from error
    if rows.dtype != np.uint64 or rows.ndim != 2 or rows.shape[0] != 4 or (rows[0, 1:] < rows[0, :-1]).any():
        raise _damaged(place, name)
    return rows


def _damaged(place: Place, name: str) -> FolderError:
    return FolderError(
        f"reading the list of what is done, {place.shown(name)}: it is damaged. Delete it: what is there is then known "
        "by the note in each result."
    )
