"""What Triton's Python backend loads: `export-triton` copies this file beside the run time and the bundle.

It is written so that old versions of Python can still read it, to say why they are too old. The standard library alone
checks every file against SHA256SUMS before any of them is imported.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from deploy.triton.instance import Instance

HERE = Path(__file__).resolve().parent
NEEDED_PYTHON = (3, 11)


class TritonPythonModel:
    """What Triton calls; `deploy.triton.instance` does the work."""

    _instance: Instance

    def initialize(self, args: dict[str, str]) -> None:
        """The bundle is open and has made a small picture; or Triton says in a sentence why not."""
        refusal = problem_of_triton(pb_utils, sys.version_info[:2]) or problem_of_files(HERE)
        if refusal:
            raise pb_utils.TritonModelException(refusal)
        sys.path.insert(0, str(HERE / "runtime"))
        try:
            from deploy.triton.instance import REFUSALS, instance_of_arguments
        except ImportError as error:
            raise pb_utils.TritonModelException(
                f"The Python that Triton runs lacks a package ({error}). Install those of requirements.txt, which lies "
                f"beside the repository's README.md, for Python {sys.version.split()[0]} in {sys.prefix}."
            ) from error
        try:
            self._instance = instance_of_arguments(HERE / "bundle", args)
        except REFUSALS as error:
            raise pb_utils.TritonModelException(str(error)) from error

    def execute(self, requests: list[Any]) -> list[Any]:
        """An answer for each request, in their order."""
        return self._instance.responses(requests, pb_utils)

    def finalize(self) -> None:
        """The engine's memory is free, temporary files are gone."""
        self._instance.close()


def problem_of_triton(triton: Any, python: tuple[int, ...]) -> str | None:
    """Why this Triton, or the Python that it runs, is too old; None where they are not."""
    if python < NEEDED_PYTHON:
        return (
            f"This model needs Python 3.11 or newer, and this Triton runs Python {python[0]}.{python[1]}. Take a newer "
            "Triton, or give the model an environment of its own: EXECUTION_ENV_PATH in config.pbtxt."
        )
    lacking = [name for name in ("parameters", "is_cancelled") if not hasattr(triton.InferenceRequest, name)]
    if lacking:
        return (
            f"This Triton is too old: requests of its Python backend have no {lacking[0]}(), by which they say how a "
            "picture is to be made and that nobody waits any more. Take Triton 2.39 (23.10) or newer."
        )
    return None


def problem_of_files(folder: Path) -> str | None:
    """What differs from SHA256SUMS; None where all is as it was written."""
    try:
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            digest, _, name = line.partition("  ")
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                return f"{name} in {folder} is not the file that SHA256SUMS lists. Export the repository again."
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror}). Copy the repository again, or export it again."
    return None
