"""The folder in which a calibration keeps what it has done so far, for itself after an interruption and for others.

Of two calibrations of the same thing at the same time the second waits, and finds done what the first did.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.bundle.locking import DirectoryLock
from deploy.errors import BundleError
from engines.cache import default_cache_dir

LOOK_EVERY_S = 1.0


def folder_for(described: Mapping[str, Any], cache: Path | None) -> Path:
    """The folder, there now, that is named after all that partial results depend on; cache None: the user's."""
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    folder = (cache or default_cache_dir()) / "calibrations" / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"keeping partial results in {folder}: {error.strerror}. Name another place with --cache-dir."
        ) from error
    return folder


def hashes_of_float_graphs(bundle: Bundle) -> list[str]:
    """Of every float graph and weights file, sorted: a bundle that gained int8 graphs keeps its partial results."""
    graphs = bundle.manifest.graphs.values()
    names = {name for one in graphs for name in [*one["forms"].values(), *one["weights"]]}
    return sorted(bundle.manifest.files[name].sha256 for name in names)


@contextmanager
def alone_in(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """No other process that asks for it is in the block with the same folder; who comes later waits, and is told so."""
    lock = _waited_for(folder, say)
    try:
        yield
    finally:
        lock.release()


def _waited_for(folder: Path, say: Callable[[str], None]) -> DirectoryLock:
    told = False
    while True:
        try:
            return DirectoryLock(folder)
        except BlockingIOError:
            if not told:
                say(f"waiting for another calibration with the same settings, which works in {folder}")
            told = True
            time.sleep(LOOK_EVERY_S)
