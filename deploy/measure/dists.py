"""DISTS, a perceptual distance that forgives a texture's being another draw of itself (Ding et al., TPAMI 2020).

Both pictures go through the convolutions of VGG-16, whose poolings are smooth. After each of the five groups, and of
the pixels themselves, every channel's means (texture) and its covariance (structure) are compared as SSIM compares
them, and averaged with learned weights. Computed with numpy alone.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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

BACKBONE_FILES = "vgg16-*.pth"
"""torchvision's VGG-16; what the star stands for is the beginning of the file's SHA-256."""
SHARES = PackagedFile(measure="DISTS", package="DISTS_pytorch", file="weights.pt", install="dists-pytorch")
"""The learned weights alpha (texture) and beta (structure)."""

GROUPS = (
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
    ((17, 256, 512), (19, 512, 512), (21, 512, 512)),
    ((24, 512, 512), (26, 512, 512), (28, 512, 512)),
)
"""Convolutions of 3x3 pixels: place in torchvision's list, channels in and out. A pooling goes before each group but
the first."""
CHANNELS = (3, *(group[-1][2] for group in GROUPS))

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
"""Of what VGG-16 was trained on."""
_HANN = np.outer([0.5, 1.0, 0.5], [0.5, 1.0, 0.5]).astype(np.float32) / 4
_C = 1e-6

SMALLEST_SIDE = 32
"""Below it the last group would see less than two pixels a side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dists:
    """Weights of the network and of the differences, ready to compare."""

    weights: tuple[tuple[Float32, ...], ...]
    biases: tuple[tuple[Float32, ...], ...]
    textures: tuple[Float32, ...]
    structures: tuple[Float32, ...]
    source: Path

    def describe(self) -> str:
        """Which DISTS this is."""
        return self.source.stem

    def distance(self, a: Pixels, b: Pixels) -> float:
        """How different two pictures (H, W, 3) in [0, 255] look: 0 for equal ones. Not a number below 32 pixels.

        They are compared at their own size; the authors' script reduces large ones to 256 pixels first.
        """
        if a.shape != b.shape:
            raise SizeError(f"measuring DISTS: the pictures differ in shape, {tuple(a.shape)} and {tuple(b.shape)}.")
        if min(a.shape[:2]) < SMALLEST_SIDE:
            return float("nan")
        total = float(sum(share.sum(dtype=np.float64) for share in (*self.textures, *self.structures)))
        alike = 0.0
        features = zip(self._features(a), self._features(b), self.textures, self.structures, strict=True)
        for x, y, texture, structure in features:
            mean_x, mean_y = x.mean(axis=(0, 1)), y.mean(axis=(0, 1))
            spread_x, spread_y = np.square(x - mean_x).mean(axis=(0, 1)), np.square(y - mean_y).mean(axis=(0, 1))
            common = (x * y).mean(axis=(0, 1)) - mean_x * mean_y
            alike += float(np.sum(texture * (2 * mean_x * mean_y + _C) / (mean_x**2 + mean_y**2 + _C)))
            alike += float(np.sum(structure * (2 * common + _C) / (spread_x + spread_y + _C)))
        return 1.0 - alike / total

    def _features(self, pixels: Pixels) -> list[NDArray[np.float64]]:
        """The pixels in 0..1 and what each group makes of them, (rows, columns, channels)."""
        x: Float32 = pixels.astype(np.float32) / np.float32(255)
        features = [x]
        x = np.asarray((x - MEAN) / DEVIATION, np.float32)
        for number, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = _smoothly_pooled(x) if number else x
            for weight, bias in zip(weights, biases, strict=True):
                x = np.asarray(np.maximum(convolved(x, weight, padding=(1, 1)) + bias, 0.0), np.float32)
            features.append(x)
        return [feature.astype(np.float64) for feature in features]


def _smoothly_pooled(x: Float32) -> Float32:
    """The root of the mean square under a Hann window of 3x3 pixels, at every second one."""
    squares = windows(np.pad(np.square(x), ((1, 1), (1, 1), (0, 0))), (3, 3), 2)
    return np.asarray(np.sqrt(np.einsum("hwcij,ij->hwc", squares, _HANN) + np.float32(1e-12)), np.float32)


def load_dists(folder: Path | None = None) -> Dists:
    """DISTS with the weights in a folder; None: with those that PyTorch and the package `dists-pytorch` keep.

    What is not there is a CheckpointError that says what would have to lie where.
    """
    network = hashed_file(folder or torch_hub_folder(), BACKBONE_FILES, "torchvision's VGG-16", "--dists")
    learned = SHARES.path(folder)
    stored = tensors_of(network)
    weights, biases = [], []
    for group in GROUPS:
        named = [(f"features.{place}", into, out) for place, into, out in group]
        shapes = [(f"{name}.weight", (out, into, 3, 3)) for name, into, out in named]
        weights.append(tuple(read_tensor(network, stored, name, shape, "DISTS") for name, shape in shapes))
        biases.append(tuple(read_tensor(network, stored, f"{name}.bias", (out,), "DISTS") for name, _, out in named))
    shares = tensors_of(learned)
    shape, ends = (1, sum(CHANNELS), 1, 1), np.cumsum(CHANNELS)[:-1]
    alpha, beta = (read_tensor(learned, shares, name, shape, "DISTS").reshape(-1) for name in ("alpha", "beta"))
    return Dists(
        weights=tuple(weights),
        biases=tuple(biases),
        textures=tuple(np.split(alpha, ends)),
        structures=tuple(np.split(beta, ends)),
        source=network,
    )
