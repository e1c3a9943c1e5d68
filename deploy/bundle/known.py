"""Bundles that are known on this machine: written here by this tool, or run here once in a process of their own.

A file per bundle in the user's cache, named by the hash of what bundle.json says, has a line for each thing that is
known: `written`, or the engine and version that ran it. A cache that cannot be written keeps nothing, and then the next
process begins anew.
"""

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from deploy.bundle.manifest import Manifest
from engines.cache import default_cache_dir

WRITTEN = "written"
MOST = 4096
"""Bundles that are remembered; where there are more, the half that was told of longest ago is forgotten."""

_IN_THIS_PROCESS: dict[str, set[str]] = {}


def digest_of(manifest: Manifest) -> str:
    """The SHA-256 of all that a manifest says, the hashes of its files among it."""
    return sha256(manifest.as_bytes()).hexdigest()


def known_of(digest: str) -> set[str]:
    """What is known of a bundle; nothing of a stranger's."""
    words = _IN_THIS_PROCESS.setdefault(digest, set())
    with suppress(OSError, UnicodeDecodeError):
        words |= set(_place(digest).read_text().splitlines())
    return words


def remember(digest: str, word: str) -> None:
    """From now on that is known of the bundle, in later processes too where the cache can be written."""
    _IN_THIS_PROCESS.setdefault(digest, set()).add(word)
    place = _place(digest)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            _make_room(place.parent)
        with place.open("a") as file:
            file.write(f"{word}\n")


def trust_in_this_process(digest: str) -> None:
    """The bundle counts as written here for as long as this process lives: one that is there to run it."""
    _IN_THIS_PROCESS.setdefault(digest, set()).add(WRITTEN)


def _place(digest: str) -> Path:
    return default_cache_dir() / "bundles" / digest[:40]


def _make_room(folder: Path) -> None:
    names = list(folder.iterdir())
    if len(names) < MOST:
        return
    for path in sorted(names, key=lambda path: path.stat().st_mtime)[: MOST // 2]:
        path.unlink(missing_ok=True)
