"""The bill of materials: every package that an installation of the wheel consists of, in CycloneDX."""

import json
import os
import sys
from pathlib import Path

from releasing.build import run


def write_bill(python: Path, wheel: Path, folder: Path) -> Path:
    """The bill of the environment of `python`, beside the wheel: the same bytes for the same environment."""
    path = folder / f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json"
    run(
        [
            *(sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of", "JSON"),
            *("--output-file", str(path), str(python)),
        ],
        folder,
        {name: os.environ[name] for name in ("SOURCE_DATE_EPOCH",) if name in os.environ},
    )
    path.write_text(json.dumps(without_places(json.loads(path.read_text())), indent=1, sort_keys=True) + "\n")
    return path


def without_places(part: object) -> object:
    """A bill without the folders of the machine that it was written on."""
    if isinstance(part, dict):
        return {key: without_places(value) for key, value in part.items() if not _is_place(value)}
    if isinstance(part, list):
        return [without_places(value) for value in part if not _is_place(value)]
    return part


def _is_place(part: object) -> bool:
    return isinstance(part, dict) and str(part.get("url", "")).startswith("file:")
