"""Inception's features on made-up weights against PyTorch's own layers, and the figures of clouds known by hand."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deploy.errors import CheckpointError
from deploy.measure.inception import (
    LEAST,
    covered,
    distribution_figures,
    frechet_distance,
    kernel_distance,
    load_inception,
)

RNG = np.random.default_rng(0)


class ByTorch:
    """The network as its paper and pytorch-fid write it, with weights made when they are first needed."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(0)

    def conv(
        self, x: Tensor, name: str, out: int, kernel: int | tuple[int, int], stride: int = 1, pad: object = 0
    ) -> Tensor:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        if f"{name}.conv.weight" not in self.weights:
            reach = x.shape[1] * size[0] * size[1]
            weight = torch.randn((out, x.shape[1], *size), generator=self.generator) * (2 / reach) ** 0.5
            self.weights |= {
                f"{name}.conv.weight": weight,
                f"{name}.bn.weight": torch.rand(out, generator=self.generator) + 0.5,
                f"{name}.bn.bias": torch.rand(out, generator=self.generator) * 0.1,
                f"{name}.bn.running_mean": torch.rand(out, generator=self.generator) * 0.1,
                f"{name}.bn.running_var": torch.rand(out, generator=self.generator) + 0.5,
            }
        w = {part: self.weights[f"{name}.{part}"].double() for part in
             ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")}  # fmt: skip
        x = functional.conv2d(x, w["conv.weight"], stride=stride, padding=pad)  # type: ignore[arg-type]
        x = functional.batch_norm(x, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"], eps=0.001)
        return functional.relu(x)

    def a(self, x: Tensor, n: str, pool: int) -> Tensor:
        mean = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        five = self.conv(self.conv(x, f"{n}.branch5x5_1", 48, 1), f"{n}.branch5x5_2", 64, 5, pad=2)
        three = self.conv(self.conv(x, f"{n}.branch3x3dbl_1", 64, 1), f"{n}.branch3x3dbl_2", 96, 3, pad=1)
        three = self.conv(three, f"{n}.branch3x3dbl_3", 96, 3, pad=1)
        return torch.cat(
            [self.conv(x, f"{n}.branch1x1", 64, 1), five, three, self.conv(mean, f"{n}.branch_pool", pool, 1)], 1
        )

    def c(self, x: Tensor, n: str, c7: int) -> Tensor:
        mean = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        one = self.conv(self.conv(x, f"{n}.branch7x7_1", c7, 1), f"{n}.branch7x7_2", c7, (1, 7), pad=(0, 3))
        one = self.conv(one, f"{n}.branch7x7_3", 192, (7, 1), pad=(3, 0))
        two = self.conv(self.conv(x, f"{n}.branch7x7dbl_1", c7, 1), f"{n}.branch7x7dbl_2", c7, (7, 1), pad=(3, 0))
        two = self.conv(two, f"{n}.branch7x7dbl_3", c7, (1, 7), pad=(0, 3))
        two = self.conv(two, f"{n}.branch7x7dbl_4", c7, (7, 1), pad=(3, 0))
        two = self.conv(two, f"{n}.branch7x7dbl_5", 192, (1, 7), pad=(0, 3))
        return torch.cat(
            [self.conv(x, f"{n}.branch1x1", 192, 1), one, two, self.conv(mean, f"{n}.branch_pool", 192, 1)], 1
        )

    def e(self, x: Tensor, n: str, pooled: Tensor) -> Tensor:
        three = self.conv(x, f"{n}.branch3x3_1", 384, 1)
        double = self.conv(self.conv(x, f"{n}.branch3x3dbl_1", 448, 1), f"{n}.branch3x3dbl_2", 384, 3, pad=1)
        halves = [
            self.conv(part, f"{n}.{name}{half}", 384, size, pad=pad)
            for part, name in ((three, "branch3x3_2"), (double, "branch3x3dbl_3"))
            for half, size, pad in (("a", (1, 3), (0, 1)), ("b", (3, 1), (1, 0)))
        ]
        return torch.cat(
            [self.conv(x, f"{n}.branch1x1", 320, 1), *halves, self.conv(pooled, f"{n}.branch_pool", 192, 1)], 1
        )

    def features(self, pixels: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].double() / 255
        x = 2 * functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.conv(self.conv(x, "Conv2d_1a_3x3", 32, 3, 2), "Conv2d_2a_3x3", 32, 3)
        x = functional.max_pool2d(self.conv(x, "Conv2d_2b_3x3", 64, 3, pad=1), 3, 2)
        x = self.conv(self.conv(x, "Conv2d_3b_1x1", 80, 1), "Conv2d_4a_3x3", 192, 3)
        x = functional.max_pool2d(x, 3, 2)
        for n, pool in (("5b", 32), ("5c", 64), ("5d", 64)):
            x = self.a(x, f"Mixed_{n}", pool)
        double = self.conv(self.conv(x, "Mixed_6a.branch3x3dbl_1", 64, 1), "Mixed_6a.branch3x3dbl_2", 96, 3, pad=1)
        double = self.conv(double, "Mixed_6a.branch3x3dbl_3", 96, 3, 2)
        x = torch.cat([self.conv(x, "Mixed_6a.branch3x3", 384, 3, 2), double, functional.max_pool2d(x, 3, 2)], 1)
        for n, c7 in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            x = self.c(x, f"Mixed_{n}", c7)
        three = self.conv(self.conv(x, "Mixed_7a.branch3x3_1", 192, 1), "Mixed_7a.branch3x3_2", 320, 3, 2)
        seven = self.conv(x, "Mixed_7a.branch7x7x3_1", 192, 1)
        seven = self.conv(seven, "Mixed_7a.branch7x7x3_2", 192, (1, 7), pad=(0, 3))
        seven = self.conv(seven, "Mixed_7a.branch7x7x3_3", 192, (7, 1), pad=(3, 0))
        seven = self.conv(seven, "Mixed_7a.branch7x7x3_4", 192, 3, 2)
        x = torch.cat([three, seven, functional.max_pool2d(x, 3, 2)], 1)
        x = self.e(x, "Mixed_7b", functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        x = self.e(x, "Mixed_7c", functional.max_pool2d(x, 3, 1, 1))
        return x.mean((2, 3))[0].numpy()


def save(folder: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    return (folder / "weights.pth").rename(folder / f"pt_inception-2015-12-05-{digest[:8]}.pth")


@pytest.mark.slow
def test_the_features_are_those_of_the_layers_written_out(tmp_path: Path) -> None:
    by_torch = ByTorch()
    pixels = RNG.integers(0, 256, (40, 330, 3), dtype=np.uint8)
    expected = by_torch.features(pixels)
    save(tmp_path, by_torch.weights)
    found = load_inception(tmp_path).features(pixels)
    assert expected.shape == found.shape == (2048,) and np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())  # float32 and float64


def test_weights_that_are_missing_or_foreign_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no pt_inception-2015-12-05-\*\.pth, FID's Inception .* with --inception"
    ):
        load_inception(tmp_path)
    parts = {f"Conv2d_1a_3x3.bn.{part}": torch.ones(2) for part in ("weight", "bias", "running_mean", "running_var")}
    path = save(tmp_path, {"Conv2d_1a_3x3.conv.weight": torch.zeros(2, 7, 3, 3), **parts})
    with pytest.raises(
        CheckpointError, match="the file that FID needs: expected Conv2d_1a_3x3 for 3 channels, found 7"
    ):
        load_inception(tmp_path).features(np.zeros((20, 20, 3), np.uint8))
    path.unlink()
    save(tmp_path, {"Conv2d_1a_3x3.conv.weight": torch.zeros(2, 3, 3, 3), **parts})
    with pytest.raises(CheckpointError, match="expected Conv2d_2a_3x3 for 2 channels, found nothing"):
        load_inception(tmp_path).features(np.zeros((20, 20, 3), np.uint8))


def test_fid_of_gaussian_clouds_is_known() -> None:
    """Diagonal covariances: the squared distance of the means and that of the standard deviations."""
    points = RNG.normal(size=(4000, 3))
    points = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False)).T)
    moved = points * [1, 2, 3] + [5, 0, 0]
    assert frechet_distance(points, moved) == pytest.approx(25 + 0 + 1 + 4)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-9)


def test_kid_by_hand() -> None:
    a, b = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 1.0], [1.0, -1.0]])
    # (0/2 + 1)^3 = 1 within a, (0/2 + 1)^3 = 1 within b; between: 1.5^3, 1.5^3, 1.5^3, 0.5^3.
    assert kernel_distance(a, b) == pytest.approx(1 + 1 - 2 * (3 * 3.375 + 0.125) / 4)


def test_precision_and_recall_by_hand() -> None:
    """Points on a line, each of which reaches its third neighbour; one of the five generated ones is among the real."""
    real = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    generated = np.array([[2.5], [50.0], [50.1], [50.2], [50.3]])
    assert covered(generated, real) == pytest.approx(1 / 5)
    assert covered(real, generated) == pytest.approx(1)  # 2.5 reaches as far as 50.2
    assert covered(real, generated[1:]) == 0


def test_figures_of_too_few_pictures_are_left_out() -> None:
    cloud = RNG.normal(size=(LEAST["kid"], 4))
    assert distribution_figures(cloud, cloud).keys() == {"kid"}
    assert distribution_figures(cloud[:-1], cloud) == {}
    large = RNG.normal(size=(LEAST["fid"], 4))
    assert distribution_figures(large, large).keys() == LEAST.keys()
