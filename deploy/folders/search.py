"""The pictures that are meant by the files and folders a person names."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from deploy.errors import ImageError
from deploy.folders.patterns import Patterns
from deploy.images.files import READ_SUFFIXES

OWN_FOLDER = ".idm-deploy"
"""Name of the folder, among results, that holds the record of what is done."""


@dataclass(frozen=True)
class Candidate:
    """A picture to enlarge, and the folder, from the output's, that its result goes into."""

    path: Path
    place: PurePath


@dataclass(kw_only=True)
class Found:
    """What a search came to: pictures in the order of their names, folders that cannot be read, and what was passed
    over."""

    sources: list[Candidate] = field(default_factory=list)
    failures: dict[Path, ImageError] = field(default_factory=dict)
    repeated: list[Path] = field(default_factory=list)  # files that were named more than once
    others: int = 0  # files whose names are not those of pictures
    results: int = 0  # pictures that are results of earlier runs


def find_pictures(
    named: Sequence[Path],
    patterns: Patterns,
    *,
    output: Path | None = None,
    is_result: Callable[[Path], bool] = lambda _: False,
) -> Found:
    """Every picture among the files and folders that were named.

    A file is taken as it is, once, however often it was named. Folders are searched with those below them, links
    followed, each folder once, so that links in a circle end; what is hidden (.name) is passed over, and so are the
    folder of results `output` and folders that hold results of other runs. In a folder whose results lie beside the
    pictures, `is_result` tells them apart. Without patterns to include, a picture is a file with the suffix of one.
    """
    found = Found()
    places: dict[Path, Path] = {}
    for path in named:
        place = path.resolve() if path.is_dir() else _place_of(path)
        if place in places and not path.is_dir():
            found.repeated.append(places[place])
        places.setdefault(place, path)
    folders = {place: path for place, path in places.items() if path.is_dir()}
    _refuse_equal_names(list(folders.values()))
    search = _Search(patterns, found, output, is_result, places.keys() - folders.keys())
    for place, path in places.items():
        if place in folders:
            # A folder that is alone is mirrored from its inside; of several each keeps its name.
            search.walk(path, PurePath(place.name) if len(folders) > 1 else PurePath())
        else:
            found.sources.append(Candidate(path, PurePath()))
    return found


def _place_of(file: Path) -> Path:
    """The same for all ways to name an entry of a folder; a link is an entry of its own."""
    return file.parent.resolve() / file.name


def _refuse_equal_names(folders: Sequence[Path]) -> None:
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in names:
            raise ImageError(
                f"{names[name]} and {folder} are folders of the same name, and their results would share one folder; "
                "enlarge them one after the other, into different folders."
            )
        names[name] = folder


class _Search:
    def __init__(
        self,
        patterns: Patterns,
        found: Found,
        output: Path | None,
        is_result: Callable[[Path], bool],
        named: Collection[Path],
    ) -> None:
        self._patterns = patterns
        self._found = found
        self._output = None if output is None else output.resolve()
        self._is_result = is_result
        self._named = named
        self._entered: set[tuple[int, int]] = set()

    def walk(self, root: Path, place: PurePath) -> None:
        """Adds the pictures in `root`, whose results go to `place`."""
        for folder, inside in self._folders(root):
            # Only files that lie among the results can be results of this folder.
            resolved = folder.resolve()
            mixed = self._output is not None and resolved.is_relative_to(self._output)
            for name in self._names(folder, files=True):
                path = folder / name
                if not self._is_meant(inside / name):
                    self._found.others += 1
                elif mixed and self._is_result(path):
                    self._found.results += 1
                elif self._named and resolved / name in self._named:
                    self._found.repeated.append(path)
                else:
                    self._found.sources.append(Candidate(path, place / inside))

    def _folders(self, root: Path) -> Iterator[tuple[Path, PurePath]]:
        """The folder and those below it, each once, and where they lie from it."""
        waiting = [(root, PurePath())]
        while waiting:
            folder, inside = waiting.pop()
            if not self._enters(folder, is_root=folder is root):
                continue
            yield folder, inside
            below = [
                (folder / name, inside / name)
                for name in self._names(folder, files=False)
                if not self._patterns.leaves_out(inside / name)
            ]
            waiting += reversed(below)

    def _enters(self, folder: Path, *, is_root: bool) -> bool:
        try:
            status = folder.stat()
        except OSError as error:
            self._refuse(folder, error)
            return False
        if (status.st_dev, status.st_ino) in self._entered:
            return False
        self._entered.add((status.st_dev, status.st_ino))
        # What was named is meant, even if results of an earlier run lie in it.
        return is_root or not (folder.resolve() == self._output or (folder / OWN_FOLDER).is_dir())

    def _names(self, folder: Path, *, files: bool) -> list[str]:
        """What is not hidden in a folder, sorted: its folders, or everything else."""
        try:
            with os.scandir(folder) as entries:
                names = [
                    entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry) != files
                ]
        except OSError as error:
            self._refuse(folder, error)
            return []
        return sorted(names, key=os.fsencode)

    def _is_meant(self, inside: PurePath) -> bool:
        if not self._patterns.include and inside.suffix.lower() not in READ_SUFFIXES:
            return False
        return self._patterns.takes(inside)

    def _refuse(self, folder: Path, error: OSError) -> None:
        self._found.failures[folder] = ImageError(
            f"reading the folder {folder}: {error.strerror}. Check its permissions."
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link in a circle: to be refused as a file, by name
