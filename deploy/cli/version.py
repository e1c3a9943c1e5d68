"""`idm-deploy --version`, and with --json all that somebody else needs to understand a bug that you saw."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import deploy

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
    """What `--version` prints: one line, or the whole record as JSON."""
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
    """The bytes of all files below a folder; what may not be looked at, or goes meanwhile, counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):  # passes over what may not be read
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:
                continue
    return total


EXIT_CODES: Mapping[int, str] = {
    0: "everything was done",
    1: "something was refused or failed; a sentence on stderr says what and what to do",
    2: "wrong usage: an unknown option, or a value that no file, bundle or machine would make right",
    130: "stopped with Ctrl-C",
}

VARIABLES: Mapping[str, str] = {
    "XDG_CACHE_HOME": "the cache is the folder idm-deploy in it; else in ~/.cache",
    "LOCALAPPDATA": "the same on Windows",
    "TORCH_HOME": "where `evaluate` looks for the weights of LPIPS; else in ~/.cache/torch",
    "NO_COLOR": "no colours",
    "FORCE_COLOR": "colours in a pipe too",
    "COLUMNS": "width of tables, if it is not that of the terminal",
    "OMP_NUM_THREADS": "threads of PyTorch, which `export` and `verify --against` use",
    "CUDA_VISIBLE_DEVICES": "which NVIDIA GPUs are seen",
    "ONEDNN_MAX_CPU_ISA": "instructions that OpenVINO and PyTorch may use; without AVX-512 bf16 is refused",
    "HF_HOME": "the cache of models from a hub; else ~/.cache/huggingface",
    "HF_ENDPOINT": "the hub; else https://huggingface.co",
    "HF_HUB_OFFLINE": "set to 1, no hub is asked",
    "HF_HUB_DISABLE_TELEMETRY": "set to 1 for the hub's package unless you set it",
    "RAY_USAGE_STATS_ENABLED": "set to 0 for Ray, whatever it was",
    "ORT_DISABLE_TELEMETRY": "set to 1 for ONNX Runtime unless you set it",
}
"""Read by this package or by the libraries under it. There is none of our own: settings are options.

HF_TOKEN is read as well, and left out here: a bug report has them all.
"""


def exit_codes_and_variables() -> str:
    """The exit codes and the environment variables, as paragraphs for the end of `--help`."""
    codes = (f"{code}: {meaning}." for code, meaning in EXIT_CODES.items())
    variables = (f"{name}: {meaning}." for name, meaning in VARIABLES.items())
    return "\n".join(["Exit codes", *codes]) + "\n\n" + "\n".join(["Environment variables", *variables])
