"""What is done, and who is at what, in `.idm-deploy` among the results: a rerun makes only what is missing.

    record.sqlite       done: a row for each result; claims: a row for each picture that a run is at
    runs/<run>/alive    locked while that run lives
    runs/<run>/1.png    what it writes, complete before it is moved to its place

A result is done if the settings are the same, the input is the same and the result lies there as it was written. Both
files are told by size and times first, as git does; where these differ, by what they hold. A file that was written so
shortly before it was read that its time would not tell another change is always told by what it holds.

Runs share a folder by claims: what another living run has claimed is left to it. What runs that were killed had claimed
is free for the next one, which also removes what they had half written. SQLite keeps a journal rather than a
write-ahead log, which several machines could not share over a network disk.
"""

import contextlib
import hashlib
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

from deploy.errors import FolderError
from deploy.folders.alive import AliveLock, is_alive
from deploy.folders.search import OWN_FOLDER
from engines.paths import is_file_there

VERSION = 1
"""Of the tables; a record of another version is not read."""

NOT_BEGUN = 0
"""What SQLite says of a file without tables: another run has made it, and is about to write them."""

PATIENCE = 60.0
"""Seconds that a run waits for others that write to the record at that moment."""

CACHE_KIB = 256
"""Of the file in memory; the system holds the rest of it, and a run of many pictures grows by no more."""

SETTLED_NS = 2_000_000_000
"""Age that a file's time must have when the file is read, to tell a later change: FAT counts in two seconds."""

_COLUMNS = (
    "input BLOB",  # path
    "input_bytes INTEGER",
    "input_modified INTEGER",
    "input_changed INTEGER",
    "input_hash BLOB",
    "settings BLOB",
    "output_bytes INTEGER",
    "output_modified INTEGER",
    "output_hash BLOB",
)
_NAMES = ", ".join(column.split()[0] for column in _COLUMNS)
_TABLES = f"""
CREATE TABLE done(output BLOB PRIMARY KEY, {", ".join(_COLUMNS)}) WITHOUT ROWID;
CREATE TABLE claims(output BLOB PRIMARY KEY, run TEXT NOT NULL, {", ".join(_COLUMNS)}) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True)
class Stamp:
    """What the system tells of a file without reading it: size, and when its content and its entry were changed."""

    bytes: int
    modified: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """As it is now; OSError where there is none."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def if_settled(self) -> "Stamp":
        """Itself, if its times would tell a change from now on; else one that no file has."""
        return self if time.time_ns() - max(self.modified, self.changed) > SETTLED_NS else Stamp(self.bytes, -1, -1)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How a result was made. `settings`: the hash of everything but the input. `changed` of the output is not kept, as
    moving it to its place changes that."""

    input: bytes
    input_stamp: Stamp
    input_hash: bytes
    settings: bytes
    output_bytes: int
    output_modified: int
    output_hash: bytes

    @property
    def input_path(self) -> Path:
        """Where the input lay, as an absolute path."""
        return Path(os.fsdecode(self.input))

    def values(self) -> tuple[object, ...]:
        """In the order of the columns."""
        stamp = self.input_stamp
        return (
            *(self.input, stamp.bytes, stamp.modified, stamp.changed, self.input_hash, self.settings),
            *(self.output_bytes, self.output_modified, self.output_hash),
        )

    @classmethod
    def of_values(cls, values: tuple[object, ...]) -> Self:
        """Of a row of the table."""
        path, size, modified, changed, input_hash, settings, output_bytes, output_modified, output_hash = values
        return cls(
            input=path,  # type: ignore[arg-type]  # the columns have types
            input_stamp=Stamp(size, modified, changed),  # type: ignore[arg-type]
            input_hash=input_hash,  # type: ignore[arg-type]
            settings=settings,  # type: ignore[arg-type]
            output_bytes=output_bytes,  # type: ignore[arg-type]
            output_modified=output_modified,  # type: ignore[arg-type]
            output_hash=output_hash,  # type: ignore[arg-type]
        )

    def has_input(self, path: Path) -> bool:
        """Whether the file at `path` is the one the result was made of."""
        stamp = Stamp.of(path)
        return stamp == self.input_stamp or (
            stamp.bytes == self.input_stamp.bytes and hash_of_file(path) == self.input_hash
        )

    def has_output(self, path: Path) -> bool:
        """Whether the file at `path` is the result as it was written."""
        try:
            stamp = Stamp.of(path)
            if stamp.bytes != self.output_bytes or not path.is_file():
                return False
            return stamp.modified == self.output_modified or hash_of_file(path) == self.output_hash
        except OSError:
            return False


def hash_of_file(path: Path) -> bytes:
    """128 bits of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


class RecordError(FolderError):
    """The record of a folder cannot be read or kept, which ends a run: nothing that it made would be known."""


class Known:
    """The record of one folder of results, to be looked at; a context manager. Nothing is known where there is none,
    a damaged one, or one that another run is about to begin."""

    def __init__(self, output: Path) -> None:
        self._place(output)
        self._connection: sqlite3.Connection | None = None
        with self._refusals():
            if is_file_there(self._path):
                # Not read-only: what a killed run had begun to write has to be rolled back first.
                address = f"{self._path.absolute().as_uri()}?mode=rw"
                self._connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, check_same_thread=False)
                try:
                    version = _version_of(self._connection)
                    if version == NOT_BEGUN:
                        self.close()
                    else:
                        self._check_version(version)
                except sqlite3.DatabaseError as error:
                    self.close()
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                except FolderError:
                    self.close()
                    raise

    def _place(self, output: Path) -> None:
        self._output = output
        self._folder = output / OWN_FOLDER
        self._path = self._folder / "record.sqlite"
        self._lock = Lock()

    def find(self, target: Path) -> Entry | None:
        """How the result at `target` was made; None if it is not known."""
        if self._connection is None or not target.is_relative_to(self._output):
            return None
        with self._refusals(), self._lock:
            row = self._connection.execute(
                f"SELECT {_NAMES} FROM done WHERE output = ?", (self._key(target),)
            ).fetchone()
        return None if row is None else Entry.of_values(row)

    def close(self) -> None:
        """Nothing is open any more."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """What goes wrong with the folder's files, as a refusal."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            raise RecordError(
                f"keeping the record of {self._output} in {self._folder}: {told}. "
                "Check permissions and room there, or choose another folder with -o."
            ) from error

    def _check_version(self, version: int) -> None:
        if version != VERSION:
            raise FolderError(
                f"reading the record {self._path}: another version of idm-deploy wrote it ({version}, expected "
                f"{VERSION}). Name another folder with -o, or delete {self._folder}."
            )

    def _key(self, target: Path) -> bytes:
        return os.fsencode(target.relative_to(self._output).as_posix())


class Record(Known):
    """The record of one folder of results, open for one run; a context manager. Any thread may use it."""

    _connection: sqlite3.Connection

    def __init__(self, output: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._place(output)
        self._runs = self._folder / "runs"
        self.run = secrets.token_hex(8)
        with self._refusals():
            self._runs.mkdir(parents=True, exist_ok=True)
            self._connection = self._opened(say)
            try:
                with self._exclusive():
                    # While nobody else may write: what is not locked yet would be taken for dead.
                    self._own_folder.mkdir()
                    self._alive = AliveLock(self._own_folder / "alive")
                    self._clear_dead()
            except BaseException:
                self._connection.close()
                raise
        if not self._alive.is_certain:
            say(f"the file system of {output} has no locks: let only one run at a time write to this folder")

    @property
    def _own_folder(self) -> Path:
        return self._runs / self.run

    def place_for(self, number: int, suffix: str) -> Path:
        """Where to write a result until it is complete."""
        return self._own_folder / f"{number}{suffix}"

    def claim(self, target: Path) -> bool:
        """Whether the picture is this run's to make; False while another living run is at it."""
        key = self._key(target)
        with self._refusals(), self._exclusive():
            row = self._connection.execute("SELECT run FROM claims WHERE output = ?", (key,)).fetchone()
            if row is not None and row[0] != self.run:
                if is_alive(self._runs / row[0] / "alive"):
                    return False
                self._clear_dead()
            self._connection.execute("INSERT OR REPLACE INTO claims(output, run) VALUES(?, ?)", (key, self.run))
        return True

    def announce(self, target: Path, entry: Entry) -> None:
        """A complete result is about to be moved to its place: known from now on, whatever ends this run."""
        with self._refusals(), self._exclusive():
            self._connection.execute(
                f"INSERT OR REPLACE INTO claims(output, run, {_NAMES}) VALUES(?, ?{', ?' * len(_COLUMNS)})",
                (self._key(target), self.run, *entry.values()),
            )

    def finish(self, target: Path, entry: Entry) -> None:
        """The result lies in its place."""
        with self._refusals(), self._exclusive():
            self._connection.execute(
                f"INSERT OR REPLACE INTO done(output, {_NAMES}) VALUES(?{', ?' * len(_COLUMNS)})",
                (self._key(target), *entry.values()),
            )
            self._release(self._key(target))

    def release(self, target: Path) -> None:
        """The picture is free for others: it failed, or nothing was to be made."""
        with self._refusals(), self._exclusive():
            self._release(self._key(target))

    def close(self) -> None:
        """This run is over, and nothing it claimed stays claimed."""
        with contextlib.suppress(RecordError), self._refusals(), self._exclusive():
            # Where not even that can be written, the next run sees that this one is dead.
            self._connection.execute("DELETE FROM claims WHERE run = ?", (self.run,))
        self._alive.release()
        shutil.rmtree(self._own_folder, ignore_errors=True)
        with self._lock:
            self._connection.close()

    def _opened(self, say: Callable[[str], None]) -> sqlite3.Connection:
        """The connection; a record that cannot be read is set aside, as all it does is save work."""
        try:
            return self._connected()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"record-damaged-{secrets.token_hex(4)}.sqlite")
            self._path.rename(aside)
            say(f"the record {self._path} is damaged ({error}): it is set aside as {aside.name}, and begun anew")
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("BEGIN IMMEDIATE")
            if _version_of(connection) == NOT_BEGUN:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
            connection.execute("COMMIT")
            self._check_version(_version_of(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """What is written in the block is written whole, while no other run writes."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _clear_dead(self) -> None:
        """What runs that have ended left behind is gone, and what they had finished counts as done."""
        for folder in list(self._runs.iterdir()):
            if folder.name != self.run and not is_alive(folder / "alive"):
                shutil.rmtree(folder, ignore_errors=True)
        runs = {folder.name for folder in self._runs.iterdir()}
        claimed = self._connection.execute(f"SELECT output, run, {_NAMES} FROM claims").fetchall()
        for key, run, *values in claimed:
            if run in runs:
                continue
            if values[-1] is not None and Entry.of_values(tuple(values)).has_output(self._output / os.fsdecode(key)):
                self._connection.execute(
                    f"INSERT OR REPLACE INTO done(output, {_NAMES}) VALUES(?{', ?' * len(_COLUMNS)})", (key, *values)
                )
            self._release(key)

    def _release(self, key: bytes) -> None:
        self._connection.execute("DELETE FROM claims WHERE output = ?", (key,))
