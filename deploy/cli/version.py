"""`idm-deploy --version`, and with --json all that somebody else needs to understand a bug that you saw."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deploy
from deploy.cli.environment import VARIABLES

LIBRARIES = (
    "typer",
    "rich",
    "safetensors",
    "pyyaml",
    "pillow",
    "OpenImageIO",
    "pillow-heif",
    "matplotlib",
    "tensorrt-rtx-cu13",
    "diffusers",
)
"""What `doctor` leaves out, because nobody has to choose or mend them."""


def version_text(*, as_json: bool) -> str:
    """One line, or the record."""
    if as_json:
        return json.dumps(version_record(), indent=1, sort_keys=True)
    return f"idm-deploy {deploy.__version__}"


def version_record() -> dict[str, Any]:
    """What `doctor` finds out about the machine, with the cache, more packages and the environment."""
    from deploy.engine.doctor import examine
    from engines.cache import default_cache_dir
    from engines.packages import installed_version

    cache = default_cache_dir()
    return asdict(examine()) | {
        "cache": {"path": str(cache), "bytes": bytes_in(cache)},
        "libraries": {name: installed_version(name) for name in LIBRARIES},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def bytes_in(folder: Path) -> int:
    """Of all files below a folder; what may not be looked at, or goes meanwhile, counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):  # passes over what may not be read
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:
                continue
    return total
