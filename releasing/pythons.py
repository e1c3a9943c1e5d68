"""The Pythons of this machine that pyproject.toml names: a release is tried on each of them.

Looked for on the PATH (`python3.12`) and among the versions that pyenv keeps, whose names on the PATH start nothing
unless pyenv was told to.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pythons_here() -> dict[str, Path]:
    """{"3.12": its program} of each Python that pyproject.toml names, is here, and can make environments."""
    return {version: found[0] for version in versions_named() if (found := [*_working(version)])}


def versions_named() -> list[str]:
    """The versions of Python that pyproject.toml says this project is for, oldest first."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    found = [re.fullmatch(r"Programming Language :: Python :: (\d+\.\d+)", line) for line in classifiers]
    return sorted((match[1] for match in found if match), key=_order)


def _working(version: str) -> Iterator[Path]:
    for program in _candidates(version):
        asked = [str(program), "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]
        try:
            told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            continue
        if told == version:
            yield program


def _candidates(version: str) -> Iterator[Path]:
    for folder in os.get_exec_path():
        if found := shutil.which(f"python{version}", path=folder):
            yield Path(found)
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for place in sorted(kept.glob(f"{version}.*"), key=lambda path: _order(path.name), reverse=True):
        yield place / "bin" / "python"


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
