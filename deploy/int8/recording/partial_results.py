"""The folder in which a calibration keeps what it has done so far, for itself after an interruption and for others.

Of two calibrations of the same thing at the same time the second waits, and finds done what the first did.

Neither the number of threads nor the memory allowed has a part in the name, so that an interrupted calibration may go
on with others. Both may change the last bits of sums: the same bytes are promised where both are the same throughout.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

import deploy
from deploy.bundle import Bundle
from deploy.bundle.locking import DirectoryLock
from deploy.bundle.records import json_from_records
from deploy.errors import BundleError
from deploy.int8.recording.trajectories import CalibrationPlans, Group
from deploy.sampling.noise import image_key
from engines.cache import default_cache_dir

LOOK_EVERY_S = 1.0

PACKAGES: Final = (
    "calibration",
    "deploy.engine",
    "deploy.families",
    "deploy.images",
    "deploy.int8",
    "deploy.picture",
    "deploy.sampling",
)
"""Those with the code that samples, observes and rounds."""


def folder_for(described: Mapping[str, Any], cache: Path | None) -> Path:
    """The folder, there now, that is named after all that partial results depend on; cache None: the user's."""
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    return _made((cache or default_cache_dir()) / "calibrations" / key)


def _made(folder: Path) -> Path:
    """The folder, there now."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"keeping partial results in {folder}: {error.strerror}. Name another place with --cache-dir."
        ) from error
    return folder


def bytes_in(folder: Path) -> int:
    """The bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def what_is_recorded(bundle: Bundle, groups: Sequence[Group], plans: CalibrationPlans, seed: int) -> dict[str, Any]:
    """The key for `folder_for`: all that the denoiser's inputs follow from, and the code that makes files of them.

    How layers are rounded and equalised is told by the names of the files that it decides on.
    """
    manifest = bundle.manifest
    return {
        "code": [deploy.__version__, _hash_of_this_code()],
        "files": _hashes_of_float_graphs(bundle),
        "tables": {name: manifest.files[file].sha256 for name, file in manifest.tables.items()},
        "networks": json_from_records(
            [manifest.family, manifest.configuration, manifest.value_range, manifest.scale_range]
        ),
        "groups": [[[image_key(lr) for lr in group.lr], group.size, group.sample] for group in groups],
        # Not the rules, which hold a function: its name says where it lies in this process.
        "plans": [[str(plan.rows), plan.end_noise_level, str(plan.settings)] for plan in plans.plans],
        "samplings": [str(group) for group in plans.samplings],
        "seed": seed,
    }


def hash_of_code(packages: Sequence[str]) -> str:
    """A hash of the packages' source files; another one after any edit, be it of a comment."""
    digest = hashlib.sha256()
    for package in packages:
        for name, content in sources_of(package).items():
            digest.update(f"{package} {name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


@functools.cache
def _hash_of_this_code() -> str:
    """The hash of this code when first asked for: it may be edited while this process runs what it has read before."""
    return hash_of_code(PACKAGES)


def sources_of(package: str) -> dict[str, bytes]:
    """The modules of a package, those of packages in it included, by their paths in it, sorted."""
    return dict(sorted(_sources_in(files(package), "")))


def _sources_in(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.name.endswith(".py"):
            yield path + entry.name, entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _sources_in(entry, f"{path}{entry.name}/")


def _hashes_of_float_graphs(bundle: Bundle) -> list[str]:
    """The hashes of all float graphs and weights files, sorted: a bundle that gained int8 graphs keeps its results."""
    graphs = bundle.manifest.graphs.values()
    names = {name for graph in graphs for name in graph.files}
    return sorted(bundle.manifest.files[name].sha256 for name in names)


@contextmanager
def alone_with(bundle: Bundle, cache: Path | None, say: Callable[[str], None]) -> Iterator[None]:
    """No other process with the same cache is in the block with the same bundle; who comes later waits, and is told so.

    The bundle's own lock would not do: it is taken anew for each of the changes that are made to it inside.
    """
    name = hashlib.sha256(str(bundle.path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = _made((cache or default_cache_dir()) / "quantizing" / name)
    with alone_in(folder, say, f"another `idm-deploy quantize` of {bundle.path}"):
        yield


@contextmanager
def alone_in(
    folder: Path, say: Callable[[str], None], another: str = "another calibration with the same settings"
) -> Iterator[None]:
    """No other process that asks for it is in the block with the same folder; who comes later waits, and is told so."""
    lock = _waited_for(folder, say, another)
    try:
        yield
    finally:
        lock.release()


def _waited_for(folder: Path, say: Callable[[str], None], another: str) -> DirectoryLock:
    is_told = False
    while True:
        try:
            return DirectoryLock(folder)
        except BlockingIOError:
            if not is_told:
                say(f"waiting for {another}, which works in {folder}")
            is_told = True
            time.sleep(LOOK_EVERY_S)
