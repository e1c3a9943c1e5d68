"""LPIPS, a perceptual distance (Zhang et al., CVPR 2018), version 0.1 on AlexNet, computed with numpy alone.

Both pictures go through the convolutions of AlexNet. After each of the five, every pixel's feature vector is brought
to length 1; d = sum over the five of the mean over pixels of sum_c w_c (a_c - b_c)^2 (equation 1, with w learned).

The weights are other people's and are never downloaded: they are taken from where PyTorch and the package `lpips` keep
them if they are there already, or from a folder that is named. No code of that package is run, and no pickle.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.checkpoint.stored_tensors import StoredTensor
from deploy.checkpoint.weights_files import open_weights
from deploy.errors import CheckpointError, SizeError

Float32 = NDArray[np.float32]
Pixels = NDArray[np.uint8]

BACKBONE_FILES = "alexnet-owt-*.pth"
"""torchvision's AlexNet; what the star stands for is the beginning of the file's SHA-256."""
LINEAR_FILE = "alex.pth"
"""The learned weights of the five differences, in the package `lpips` under weights/v0.1."""

SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
"""Brings a picture in [-1, 1] to what AlexNet was trained on."""
TINY = 1e-10
"""Added to a feature vector's length before it is divided by it."""

SMALLEST_SIDE = 31
"""Below it nothing is left for the convolutions behind the second pooling."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """One of the five, by its place in torchvision's list; `pooled`: 3x3 maxima, every second one, go before."""

    place: int
    weight: tuple[int, int, int, int]
    stride: int
    padding: int
    pooled: bool


CONVOLUTIONS = (
    Convolution(place=0, weight=(64, 3, 11, 11), stride=4, padding=2, pooled=False),
    Convolution(place=3, weight=(192, 64, 5, 5), stride=1, padding=2, pooled=True),
    Convolution(place=6, weight=(384, 192, 3, 3), stride=1, padding=1, pooled=True),
    Convolution(place=8, weight=(256, 384, 3, 3), stride=1, padding=1, pooled=False),
    Convolution(place=10, weight=(256, 256, 3, 3), stride=1, padding=1, pooled=False),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lpips:
    """Weights of the network and of the differences, ready to compare."""

    weights: tuple[Float32, ...]
    biases: tuple[Float32, ...]
    shares: tuple[Float32, ...]
    source: Path

    def describe(self) -> str:
        """Which LPIPS this is."""
        return f"v0.1, {self.source.stem}"

    def distance(self, a: Pixels, b: Pixels) -> float:
        """How different two pictures (H, W, 3) in [0, 255] look: 0 for equal ones. Not a number below 31 pixels."""
        if a.shape != b.shape:
            raise SizeError(f"measuring LPIPS: the pictures differ in shape, {tuple(a.shape)} and {tuple(b.shape)}.")
        if min(a.shape[:2]) < SMALLEST_SIDE:
            return float("nan")
        pairs = zip(self._features(a), self._features(b), self.shares, strict=True)
        return float(sum((share * np.square(x - y)).sum(axis=-1).mean() for x, y, share in pairs))

    def _features(self, pixels: Pixels) -> list[Float32]:
        """After each convolution, (rows, columns, channels), every vector of length 1."""
        x = ((pixels.astype(np.float32) / 127.5 - 1.0) - SHIFT) / SCALE
        features = []
        for layer, weight, bias in zip(CONVOLUTIONS, self.weights, self.biases, strict=True):
            if layer.pooled:
                x = _windows(x, 3, 2).max(axis=(3, 4))
            x = np.maximum(_convolved(x, layer, weight) + bias, 0.0)
            features.append(x / (np.sqrt(np.square(x).sum(axis=-1, keepdims=True)) + np.float32(TINY)))
        return features


def load_lpips(folder: Path | None = None) -> Lpips:
    """LPIPS with the weights in a folder; None: with those that PyTorch and the package `lpips` keep.

    What is not there is a CheckpointError that says what would have to lie where.
    """
    network = _backbone_file(folder or torch_hub_folder())
    differences = _linear_file(folder)
    convolutions, shares = _tensors(network), _tensors(differences)
    weights, biases, linear = [], [], []
    for number, layer in enumerate(CONVOLUTIONS):
        name, channels = f"features.{layer.place}", layer.weight[0]
        weights.append(_tensor(network, convolutions, f"{name}.weight", layer.weight))
        biases.append(_tensor(network, convolutions, f"{name}.bias", (channels,)))
        linear.append(
            _tensor(differences, shares, f"lin{number}.model.1.weight", (1, channels, 1, 1)).reshape(channels)
        )
    return Lpips(weights=tuple(weights), biases=tuple(biases), shares=tuple(linear), source=network)


def torch_hub_folder() -> Path:
    """Where PyTorch keeps weights that it has downloaded, as its own variables say."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return (Path(os.environ.get("TORCH_HOME", f"{cache}/torch")) / "hub" / "checkpoints").expanduser()


def _linear_file(folder: Path | None) -> Path:
    """The learned weights, in the folder or in the package `lpips`, which is looked up and not imported."""
    package = find_spec("lpips")
    inside = None if package is None or package.origin is None else Path(package.origin).parent / "weights" / "v0.1"
    places = [place / LINEAR_FILE for place in (folder, inside) if place is not None]
    for place in places:
        if place.is_file():
            return place
    searched = " or ".join(map(str, places)) or "the package lpips, which is not installed"
    raise CheckpointError(f"The learned weights of LPIPS v0.1 are not in {searched}; `pip install lpips` brings them.")


def _backbone_file(folder: Path) -> Path:
    """The AlexNet there, whose bytes are what its name says."""
    files = sorted(folder.glob(BACKBONE_FILES))
    if not files:
        raise CheckpointError(
            f"{folder} holds no {BACKBONE_FILES}, torchvision's AlexNet; put it there, or name its folder with --lpips."
        )
    named = files[-1].stem.rsplit("-", 1)[-1]
    with files[-1].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(named):
        raise CheckpointError(
            f"{files[-1]} is damaged: its SHA-256 begins with {digest[: len(named)]}, its name says {named}. "
            "Get it again."
        )
    return files[-1]


def _tensors(path: Path) -> Mapping[str, StoredTensor]:
    contents = open_weights(path)
    return contents.tensors(contents.root) if isinstance(contents.root, dict) else {}


def _tensor(path: Path, tensors: Mapping[str, StoredTensor], name: str, shape: tuple[int, ...]) -> Float32:
    if name not in tensors or tuple(tensors[name].shape) != shape:
        shape_there = f"{tuple(tensors[name].shape)}" if name in tensors else "nothing"
        raise CheckpointError(
            f"{path} is not the file that LPIPS needs: expected {name} of shape {shape}, found {shape_there}."
        )
    return np.asarray(tensors[name].read(), np.float32)


def _windows(x: Float32, side: int, stride: int) -> Float32:
    """(H, W, C) -> (rows, columns, C, side, side), every `stride`-th window that fits."""
    return np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(0, 1))[::stride, ::stride]


def _convolved(x: Float32, layer: Convolution, weight: Float32) -> Float32:
    """(H, W, C) -> (rows, columns, output channels), zeros around it, as one matrix product."""
    padding = layer.padding
    windows = _windows(np.pad(x, ((padding, padding), (padding, padding), (0, 0))), weight.shape[2], layer.stride)
    rows, columns = windows.shape[:2]
    product = windows.reshape(rows * columns, -1) @ weight.reshape(weight.shape[0], -1).T
    return product.reshape(rows, columns, -1)
