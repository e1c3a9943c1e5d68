"""The first run of a stranger's bundle on this machine happens in a process of its own, once per engine version.

What hangs, crashes or eats memory there does no harm here.
"""

import json
import logging
import math
import signal
import subprocess
import sys
import time
from functools import cache
from threading import Lock

from deploy.bundle import Bundle
from deploy.bundle.known import WRITTEN, digest_of, known_of, remember
from deploy.bundle.naming import MANIFEST_NAME
from deploy.bundle.reading import read_manifest
from deploy.engine.graph_files import OWN_FOLDER
from deploy.errors import BundleError
from deploy.families.table import family_named
from engines.backends import BACKENDS, backend_named

_LOG = logging.getLogger(__name__)
_ONE_AT_A_TIME = Lock()

DEADLINE_S = 60.0
LEAST_MEMORY = 2 << 30
MEMORY_PER_BYTE = 8
"""Bytes that the process may take: so many, and so many for each byte of the bundle."""


def run_first(bundle: Bundle, backend: str) -> None:
    """The bundle is known here: packaged, written on this machine by this tool, or run once by this backend's version.

    A BundleError if it is a stranger's and its first run, which is now, fails. For a GPU the first CPU backend runs it:
    what a GPU runs is built for long before; where there is no other, and for families and backends that are registered
    from elsewhere, which the other process would not know, there is no first run.
    """
    runner = _runner(bundle, backend)
    if runner is None or bundle.path.is_relative_to(OWN_FOLDER):
        return
    digest = digest_of(bundle.manifest)
    with _ONE_AT_A_TIME:
        if not known_of(digest) & {WRITTEN, _word(runner)} and digest not in _packaged():
            began = time.perf_counter()
            rehearse(bundle, runner)
            _LOG.info("the first run of %s took %.1f s", bundle.path, time.perf_counter() - began)


def rehearse(bundle: Bundle, backend: str, *, deadline_s: float = DEADLINE_S, memory: int | None = None) -> list[str]:
    """The names of the graphs that were run once on a backend, in float and in int8, in another process.

    That they ran is remembered. A BundleError if it takes longer, more than so many bytes of memory (None: by the
    bundle's size), ends the process, or fails.
    """
    memory = memory or LEAST_MEMORY + MEMORY_PER_BYTE * sum(record.bytes for record in bundle.manifest.files.values())
    # Modules are found where they were found here, but none in the folder in which this is typed (-I).
    places = [entry for entry in sys.path if entry]
    program = f"import sys; sys.path[:] = {places!r}; from deploy.engine.rehearsal import main; main()"
    command = [sys.executable, "-I", "-c", program]
    arguments = [str(bundle.path), backend, str(memory), str(math.ceil(deadline_s) + 1)]
    doing = f"trying {bundle.path} on {backend}"
    try:
        done = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(
            f"{doing}: it was not done after {deadline_s:g} seconds and was ended. Do not use this bundle, or allow "
            "more with `idm-deploy verify BUNDLE --deadline SECONDS`, which is remembered."
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"{doing}: the engine's process was ended by {name}. Do not use this bundle.")
    lines = done.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):  # it could not even begin, above all for want of memory
        words = " ".join(done.stderr.split())[-200:]
        raise BundleError(f"{doing}: its process failed with {memory >> 20} MiB of memory: {words or 'no word'}.")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise BundleError(f"{doing}: {answer['error']}")
    remember(digest_of(bundle.manifest), _word(backend))
    return [str(name) for name in answer["graphs"]]


def _word(backend: str) -> str:
    return f"{backend} {backend_named(backend).probe().version}"


def _runner(bundle: Bundle, backend: str) -> str | None:
    """The backend of the first run; None if there is none."""
    if family_named(bundle.manifest.family).model.__module__.partition(".")[0] != "deploy":
        return None
    if not backend_named(backend).on_gpu:
        return backend if backend_named(backend).open_engine.__module__.partition(".")[0] == "engines" else None
    return next((name for name, record in BACKENDS.items() if not record.on_gpu and record.probe().available), None)


@cache
def _packaged() -> frozenset[str]:
    """Of copies of packaged bundles, which are as trusted as those."""
    return frozenset(digest_of(read_manifest(path.parent)) for path in OWN_FOLDER.rglob(MANIFEST_NAME))
