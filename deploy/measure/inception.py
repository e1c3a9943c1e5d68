"""How far generated pictures are from real ones as Inception v3 sees them: FID, KID, precision and recall.

Every picture becomes 2048 features, the means of what the last block of Inception v3 (Szegedy et al. 2016) sees, in the
form that the authors of FID used, whose weights pytorch-fid carries over (poolings leave out what lies beyond the
border; the last one takes maxima). Two sets of pictures are two clouds of points. Computed with numpy alone.

Each figure needs so many pictures of both kinds to mean something (`LEAST`); below that it is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.errors import CheckpointError
from deploy.images.pictures import Pixels
from deploy.measure.weights_on_disk import convolved, hashed_file, tensors_of, torch_hub_folder, windows
from engines.arrays import Float32

Features = NDArray[np.float64]

FILES = "pt_inception-2015-12-05-*.pth"
"""The weights of FID's own Inception as pytorch-fid keeps them; the star is the beginning of the file's SHA-256."""
SIDE = 299
FEATURES = 2048
LEAST: Mapping[str, int] = {"fid": FEATURES, "kid": 100, "precision": 1000, "recall": 1000}
"""Pictures of each kind. Fewer than 2048 leave the covariance of as many features singular, and FID then tells their
number; the other two are beliefs."""
NEIGHBOURS = 3
_EPSILON = 0.001


@dataclass(frozen=True, kw_only=True, eq=False)
class Inception:
    """Weights of the network, normalisation folded in: name of a convolution -> kernels and what is added."""

    layers: Mapping[str, tuple[Float32, Float32]]
    source: Path

    def features(self, pixels: Pixels) -> Features:
        """The 2048 features of a picture (H, W, 3), brought to 299x299 (bilinear, as PyTorch does it)."""
        x = _bilinear(pixels) / np.float32(127.5) - np.float32(1)
        x = self._conv(x, "Conv2d_1a_3x3", stride=2)
        x = self._conv(x, "Conv2d_2a_3x3")
        x = self._conv(x, "Conv2d_2b_3x3", pad=(1, 1))
        x = self._conv(_largest(x), "Conv2d_3b_1x1")
        x = _largest(self._conv(x, "Conv2d_4a_3x3"))
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._block_a(x, name)
        x = self._reduction(x, "Mixed_6a", ("branch3x3",), ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"))
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._block_c(x, name)
        long = tuple(f"branch7x7x3_{number}" for number in (1, 2, 3, 4))
        x = self._reduction(x, "Mixed_7a", ("branch3x3_1", "branch3x3_2"), long)
        x = self._block_e(x, "Mixed_7b", _averaged(x))
        x = self._block_e(x, "Mixed_7c", _largest(_framed(x, -np.inf), stride=1))
        return np.asarray(x.mean(axis=(0, 1), dtype=np.float64))

    def _conv(self, x: Float32, name: str, *, stride: int = 1, pad: tuple[int, int] = (0, 0)) -> Float32:
        """Convolution, normalisation and ReLU, zeros around the input."""
        weight, added = self.layers.get(name, (np.zeros((0, 0, 1, 1), np.float32), np.zeros(0, np.float32)))
        if weight.shape[1] != x.shape[2]:
            raise CheckpointError(
                f"{self.source} is not the file that FID needs: expected {name} for {x.shape[2]} channels, found "
                f"{f'{weight.shape[1]}' if weight.size else 'nothing'}."
            )
        seen = convolved(x, weight, stride=stride, padding=pad) + added
        return np.asarray(np.maximum(seen, 0), np.float32)

    def _chain(self, x: Float32, block: str, names: Sequence[str]) -> Float32:
        """Convolutions of one branch after another, none of which changes the size."""
        for name in names:
            kernel = self.layers[f"{block}.{name}"][0].shape[2:] if f"{block}.{name}" in self.layers else (1, 1)
            x = self._conv(x, f"{block}.{name}", pad=(kernel[0] // 2, kernel[1] // 2))
        return x

    def _block_a(self, x: Float32, block: str) -> Float32:
        branches = (("branch1x1",), ("branch5x5_1", "branch5x5_2"), tuple(f"branch3x3dbl_{n}" for n in (1, 2, 3)))
        seen = [self._chain(x, block, names) for names in branches]
        return np.concatenate([*seen, self._chain(_averaged(x), block, ("branch_pool",))], axis=2)

    def _block_c(self, x: Float32, block: str) -> Float32:
        once, twice = (tuple(f"branch7x7{kind}_{n}" for n in range(1, last)) for kind, last in (("", 4), ("dbl", 6)))
        seen = [self._chain(x, block, names) for names in (("branch1x1",), once, twice)]
        return np.concatenate([*seen, self._chain(_averaged(x), block, ("branch_pool",))], axis=2)

    def _block_e(self, x: Float32, block: str, pooled: Float32) -> Float32:
        short, long = (
            self._chain(x, block, names) for names in (("branch3x3_1",), ("branch3x3dbl_1", "branch3x3dbl_2"))
        )
        seen = [self._chain(x, block, ("branch1x1",))]
        seen += [self._chain(short, block, (f"branch3x3_2{half}",)) for half in "ab"]
        seen += [self._chain(long, block, (f"branch3x3dbl_3{half}",)) for half in "ab"]
        return np.concatenate([*seen, self._chain(pooled, block, ("branch_pool",))], axis=2)

    def _reduction(self, x: Float32, block: str, *branches: Sequence[str]) -> Float32:
        """Branches whose last convolution takes every second pixel, beside maxima."""
        seen = [self._conv(self._chain(x, block, names[:-1]), f"{block}.{names[-1]}", stride=2) for names in branches]
        return np.concatenate([*seen, _largest(x)], axis=2)


def load_inception(folder: Path | None = None) -> Inception:
    """The network with the weights in a folder; None: with those where PyTorch keeps downloads.

    What is not there is a CheckpointError that says what would have to lie where.
    """
    path = hashed_file(folder or torch_hub_folder(), FILES, "FID's Inception as pytorch-fid keeps it", "--inception")
    stored = tensors_of(path)
    layers = {}
    for name in [key.removesuffix(".conv.weight") for key in stored if key.endswith(".conv.weight")]:
        weight = np.asarray(stored[f"{name}.conv.weight"].read(), np.float32)
        gain, shift, mean, variance = (
            np.asarray(stored[f"{name}.bn.{part}"].read(), np.float32)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + np.float32(_EPSILON))
        layers[name] = weight * scale[:, None, None, None], shift - mean * scale
    return Inception(layers=layers, source=path)


def distribution_figures(generated: Features, real: Features) -> dict[str, float]:
    """FID, KID, precision and recall of two clouds (pictures, features), those for which there are enough pictures."""
    count = min(len(generated), len(real))
    figures: Mapping[str, Callable[[], float]] = {
        "fid": lambda: frechet_distance(generated, real),
        "kid": lambda: kernel_distance(generated, real),
        "precision": lambda: covered(generated, real),
        "recall": lambda: covered(real, generated),
    }
    return {name: figure() for name, figure in figures.items() if count >= LEAST[name]}


def frechet_distance(a: Features, b: Features) -> float:
    """FID (Heusel et al. 2017): |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of means and covariances."""
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    common = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariance_b @ root), 0)).sum()
    shift = float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum())
    return shift + float(np.trace(covariance_a) + np.trace(covariance_b) - 2 * common)


def kernel_distance(a: Features, b: Features) -> float:
    """KID (Binkowski et al. 2018): the unbiased squared maximum mean discrepancy under (x.y / d + 1)^3."""

    def kernel(x: Features, y: Features) -> Features:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    inside = 0.0
    for x in (a, b):
        values = kernel(x, x)
        inside += float(values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))
    return inside - 2 * float(kernel(a, b).mean())


def covered(points: Features, cloud: Features) -> float:
    """The share of `points` within a cloud (Kynkaanniemi et al. 2019): no further from some point of it than that one's
    third neighbour. Of generated points in the real cloud it is precision, the other way round recall."""
    reach = np.sort(_distances(cloud, cloud), axis=1)[:, NEIGHBOURS]  # the first is the point itself
    return float((_distances(points, cloud) <= reach[None]).any(axis=1).mean())


def _distances(a: Features, b: Features) -> Features:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None] - 2 * a @ b.T
    return np.asarray(np.maximum(squares, 0))


def _bilinear(pixels: Pixels) -> Float32:
    """(299, 299, 3) by plain bilinear interpolation, half-pixel centres, no antialiasing."""
    x = pixels.astype(np.float32)
    for axis in (0, 1):
        length = x.shape[axis]
        places = np.clip((np.arange(SIDE) + 0.5) * length / SIDE - 0.5, 0, None)
        low = np.minimum(places.astype(int), length - 1)
        share = np.expand_dims((places - low).astype(np.float32), tuple(other for other in range(3) if other != axis))
        x = x.take(low, axis) * (1 - share) + x.take(np.minimum(low + 1, length - 1), axis) * share
    return np.asarray(x, np.float32)


def _framed(x: Float32, value: float) -> Float32:
    return np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=np.float32(value))


def _largest(x: Float32, stride: int = 2) -> Float32:
    return np.asarray(windows(x, (3, 3), stride).max(axis=(3, 4)))


def _averaged(x: Float32) -> Float32:
    """Means over 3x3 pixels, of those inside the picture."""
    counts = windows(_framed(np.ones_like(x[..., :1]), 0), (3, 3), 1).sum(axis=(3, 4))
    return np.asarray(windows(_framed(x, 0), (3, 3), 1).sum(axis=(3, 4)) / counts, np.float32)
