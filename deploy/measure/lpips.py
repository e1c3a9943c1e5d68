"""LPIPS, a perceptual distance (Zhang et al., CVPR 2018), version 0.1 on AlexNet, computed with numpy alone.

Both pictures go through the convolutions of AlexNet. After each of the five, every pixel's feature vector is brought
to length 1; d = sum over the five of the mean over pixels of sum_c w_c (a_c - b_c)^2 (equation 1, with w learned).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.errors import SizeError
from deploy.images.pictures import Pixels
from deploy.measure.weights_on_disk import (
    PackagedFile,
    convolved,
    hashed_file,
    read_tensor,
    tensors_of,
    torch_hub_folder,
    windows,
)
from engines.arrays import Float32

BACKBONE_FILES = "alexnet-owt-*.pth"
"""torchvision's AlexNet; what the star stands for is the beginning of the file's SHA-256."""
DIFFERENCES = PackagedFile(
    measure="LPIPS v0.1", package="lpips", file="alex.pth", inside="weights/v0.1", install="lpips"
)
"""The learned weights of the five differences."""

SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)
"""Brings a picture in [-1, 1] to what AlexNet was trained on."""
TINY = 1e-10
"""Added to a feature vector's length before it is divided by it."""

SMALLEST_SIDE = 31
"""Below it nothing is left for the convolutions behind the second pooling."""


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution of AlexNet, by its place in torchvision's list; `pooled`: 3x3 maxima, every second, go before."""

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
                x = windows(x, (3, 3), 2).max(axis=(3, 4))
            padding = layer.padding, layer.padding
            x = np.maximum(convolved(x, weight, stride=layer.stride, padding=padding) + bias, 0.0)
            features.append(x / (np.sqrt(np.square(x).sum(axis=-1, keepdims=True)) + np.float32(TINY)))
        return features


def load_lpips(folder: Path | None = None) -> Lpips:
    """LPIPS with the weights in a folder; None: with those that PyTorch and the package `lpips` keep.

    What is not there is a CheckpointError that says what would have to lie where.
    """
    network = hashed_file(folder or torch_hub_folder(), BACKBONE_FILES, "torchvision's AlexNet", "--lpips")
    differences = DIFFERENCES.path(folder)
    convolutions, shares = tensors_of(network), tensors_of(differences)
    weights, biases, linear = [], [], []
    for number, layer in enumerate(CONVOLUTIONS):
        name, channels = f"features.{layer.place}", layer.weight[0]
        weights.append(read_tensor(network, convolutions, f"{name}.weight", layer.weight, "LPIPS"))
        biases.append(read_tensor(network, convolutions, f"{name}.bias", (channels,), "LPIPS"))
        share = read_tensor(differences, shares, f"lin{number}.model.1.weight", (1, channels, 1, 1), "LPIPS")
        linear.append(share.reshape(channels))
    return Lpips(weights=tuple(weights), biases=tuple(biases), shares=tuple(linear), source=network)
