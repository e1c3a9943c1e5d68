"""`python -m releasing.locks`: every package that an installation takes, with the SHA-256 of each of its files.

The versions are those of constraints.txt where it has them. One file holds for all systems and Pythons that
pyproject.toml allows, so it lists the wheels of all of them. torch is in none: builds for CPUs alone come from another
index than PyPI, with hashes of their own.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from releasing.build import ReleaseError, run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
IMAGES = "requirements/images.in"
"""What the extra `images` brings but pillow-heif, which carries a library under the GPL that images would pass on."""


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One file of locked packages."""

    what: str
    extras: tuple[str, ...]
    more: tuple[str, ...] = ()
    """Files of requirements beyond them."""


LOCKS: Mapping[str, Lock] = {
    "runtime.txt": Lock(
        what="what `make` and CI install for bundles", extras=("cpu", "openvino", "quantize", "report")
    ),
    "image.txt": Lock(what="what the Dockerfile installs", extras=("cpu", "openvino", "serve"), more=(IMAGES,)),
    "cuda.txt": Lock(what="what Dockerfile.cuda installs", extras=("gpu", "serve"), more=(IMAGES,)),
    "build.txt": Lock(what="what builds the wheel in both images", extras=(), more=("requirements/build.in",)),
}


def write_locks() -> None:
    """All files of LOCKS anew; versions that a file has already stay where they fit."""
    for name, lock in LOCKS.items():
        project = ["pyproject.toml", *(f"--extra={extra}" for extra in lock.extras)] if lock.extras else []
        path = FOLDER / name
        run(
            [
                *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
                *("--constraint", "constraints.txt", "--no-annotate", "--no-header", "--output-file", str(path)),
                *(*project, *lock.more),
            ],
            ROOT,
        )
        path.write_text(f"# Written by `make locks`: {lock.what}.\n{path.read_text()}")


def main() -> int:
    """The files, or the words of uv."""
    try:
        write_locks()
    except ReleaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
