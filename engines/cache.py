"""What was built or measured on this machine, kept in the user's cache directory and found again by what it depends on.

An entry is a folder with entry.json and the files that were built. It is found by its `key`: graph hash, backend and
version, device and driver, precision, profile, each a named string. All must be equal; if one is not, the entry is
made again and the reason names it. Entries are written under a temporary name and renamed, one process at a time per
key, so that no reader meets half of one.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engines.errors import EngineError
from engines.file_locks import lock

_LOG = logging.getLogger(__name__)

SCHEMA = 1
ENTRY = "entry.json"
_UNFINISHED = ".unfinished-"

Figures = dict[str, Any]
"""What is recorded beside the files: sizes, times, counts; plain JSON."""

LARGEST_ENTRY_BYTES = 4 << 20
"""Of an entry.json: more than any has."""


def default_cache_dir() -> Path:
    """Where caches belong: $XDG_CACHE_HOME/idm-deploy, else ~/.cache/idm-deploy (Windows: in %LOCALAPPDATA%)."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has relative paths ignored.
    usable = base and Path(base).is_absolute()
    return (Path(base) if base and usable else Path.home() / ".cache") / "idm-deploy"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A thing in the cache. `label` is for people: which bundle and graph it was made from."""

    path: Path
    label: str
    key: Mapping[str, str]
    files: Mapping[str, int]
    """Name -> bytes."""
    figures: Figures
    built: float
    """Seconds since 1970."""

    @property
    def bytes(self) -> int:
        """The bytes of all its files."""
        return sum(self.files.values())

    @property
    def used(self) -> float:
        """When it was last found, in seconds since 1970."""
        return (self.path / ENTRY).stat().st_mtime

    def file(self, name: str) -> Path:
        """The path of one of its files."""
        return self.path / name


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """What entry.json says, checked whole when it is read."""

    schema: int
    label: str
    key: dict[str, str]
    files: dict[Annotated[str, msgspec.Meta(pattern=r"^[^/\\]+$")], Annotated[int, msgspec.Meta(ge=0)]]
    figures: Figures
    built: float


class Cache:
    """The cache in one folder; nothing is created before there is something to keep."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_cache_dir() if root is None else root

    def find(self, key: Mapping[str, str], kind: Any = Figures) -> Entry | None:
        """The entry of exactly this key, whole, marked as used now; None if there is none.

        kind: what its figures must be, as msgspec knows types; others are damage.
        """
        entry = self._read(self._place(key), kind)
        if entry is not None and dict(entry.key) == dict(key):
            _touch(entry.path / ENTRY)
            return entry
        return None

    def obtain(
        self,
        label: str,
        key: Mapping[str, str],
        build: Callable[[Path], Figures],
        *,
        rebuild: bool = False,
        kind: Any = Figures,
    ) -> tuple[Entry, str]:
        """The entry of this key, and why it was built just now; "" if it was there.

        `build` is given an empty folder to fill and returns the figures. If it fails, nothing is kept. Of several
        processes that ask at once, one builds and the others wait for it.
        """
        place = self._place(key)
        with self._writing(f"keeping {label} in {self.root}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.root / "locks" / f"{place.name}.lock"):
                entry = None if rebuild else self.find(key, kind)
                if entry is not None:
                    _LOG.info("%s: found in %s", label, entry.path)
                    return entry, ""
                reason = "--rebuild was given" if rebuild else self._reason(label, key, place)
                _LOG.info("%s: made now, since %s", label, reason)
                return self._write(place, label, key, build), reason

    def entries(self) -> list[Entry]:
        """The entries that are whole, the last used first."""
        folder = self.root / "entries"
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        entries = [entry for path in names if not path.name.startswith(_UNFINISHED) and (entry := self._read(path))]
        return sorted(entries, key=lambda entry: -entry.used)

    def prune(self, *, max_bytes: int | None = None, unused_days: float | None = None) -> list[Entry]:
        """What was removed: entries not used for so long, then the longest unused until the rest fits `max_bytes`.

        Leftovers of processes that were killed and entries that are damaged go as well; they are not listed.
        """
        with self._writing(f"pruning {self.root}"):
            self._remove_damaged()
            entries = self.entries()
            limit = None if unused_days is None else time.time() - unused_days * 86400
            removed = [entry for entry in entries if limit is not None and entry.used < limit]
            entries = [entry for entry in entries if entry not in removed]
            while max_bytes is not None and entries and sum(entry.bytes for entry in entries) > max_bytes:
                removed.append(entries.pop())
            for entry in removed:
                shutil.rmtree(entry.path)
            return removed

    def _place(self, key: Mapping[str, str]) -> Path:
        text = json.dumps(dict(key), sort_keys=True)
        return self.root / "entries" / hashlib.sha256(text.encode()).hexdigest()[:24]

    def _read(self, path: Path, kind: Any = Figures) -> Entry | None:
        """The entry in a folder; None unless it is whole."""
        try:
            if (path / ENTRY).stat().st_size > LARGEST_ENTRY_BYTES:
                return None
            record = msgspec.json.decode((path / ENTRY).read_bytes(), type=_Record)
            msgspec.convert(record.figures, kind)
            whole = all((path / name).stat().st_size == size for name, size in record.files.items())
        except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return None
        if record.schema != SCHEMA or not whole:
            return None
        return Entry(
            path=path,
            label=record.label,
            key=record.key,
            files=record.files,
            figures=record.figures,
            built=record.built,
        )

    def _reason(self, label: str, key: Mapping[str, str], place: Path) -> str:
        """Why there is no entry of this key: a damaged one, or what sets it apart from the nearest of this label."""
        if place.exists():
            return "the one in the cache is damaged or of another version of this tool"
        others = [entry for entry in self.entries() if entry.label == label]
        if not others:
            return "it was not built before"
        nearest = min(others, key=lambda entry: len(_differences(entry.key, key)))
        return f"built before with {'; '.join(_differences(nearest.key, key))}"

    def _write(self, place: Path, label: str, key: Mapping[str, str], build: Callable[[Path], Figures]) -> Entry:
        _remove_abandoned(place.parent)
        with _unfinished(place.parent) as unfinished:
            figures = build(unfinished)
            files = {path.name: path.stat().st_size for path in sorted(unfinished.iterdir())}
            entry = Entry(path=place, label=label, key=dict(key), files=files, figures=figures, built=time.time())
            record = {"schema": SCHEMA, **{n: v for n, v in asdict(entry).items() if n != "path"}}
            (unfinished / ENTRY).write_text(json.dumps(record, indent=1, sort_keys=True))
            if place.exists():
                shutil.rmtree(place)
            unfinished.rename(place)
        return entry

    def _remove_damaged(self) -> None:
        folder = self.root / "entries"
        _remove_abandoned(folder)
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            # Where there are no locks, one that is being written is left alone: nothing takes a day to build.
            old = time.time() - path.stat().st_mtime > 86400
            if path.name.startswith(_UNFINISHED) and old:
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(_UNFINISHED) and self._read(path) is None:
                shutil.rmtree(path)

    @contextmanager
    def _writing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
            raise EngineError(
                f"While {doing}: {what}. Free some space (`idm-deploy engines --prune`) or name another --cache-dir."
            ) from error


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new folder, gone on failure, and locked while the block runs: others know it from what a killed one left."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        lock = _lock(path)
        if path.exists():  # else another process took it for abandoned before it was locked
            break
        _release(lock)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        _release(lock)


def _remove_abandoned(folder: Path) -> None:
    """What killed processes left half built goes; where locks are not to be had, it stays for a day."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
        _release(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder for this process alone; None where another has it, or there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    names = [*now, *(name for name in before if name not in now)]
    return [
        f"{name} {_short(before.get(name, 'unknown'))}, now {_short(now.get(name, 'unknown'))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _short(text: str) -> str:
    return f"{text[:12]}…" if len(text) == 64 and all(letter in "0123456789abcdef" for letter in text) else text


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return  # a cache that may only be read still serves


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The only process in the block, where the system has such locks; the rename keeps entries whole without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        with suppress(OSError):
            lock(file.fileno(), wait=True)
        yield


def fingerprint(hashes: list[str]) -> str:
    """One SHA-256 for a graph, from those of its file and of its weights files in any order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def fingerprint_of_graph(graph: Path, weights: tuple[Path, ...]) -> str:
    """The fingerprint of a graph, from the files themselves."""
    states = ((path, path.stat()) for path in (graph, *weights))
    return fingerprint([_sha256_of_file(path, state.st_size, state.st_mtime_ns) for path, state in states])


@lru_cache(maxsize=64)
def _sha256_of_file(path: Path, size: int, changed_ns: int) -> str:
    """Remembered while the file stays as it is: all graphs of a bundle share one large weights file."""
    del size, changed_ns
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
