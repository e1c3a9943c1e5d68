"""DISTS on made-up weights against PyTorch's own convolutions, and where its weights are looked for."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from deploy.errors import CheckpointError, SizeError
from deploy.measure.dists import CHANNELS, GROUPS, Dists, load_dists

RNG = np.random.default_rng(0)
Tensors = dict[str, torch.Tensor]


def made_up_weights() -> tuple[Tensors, Tensors]:
    generator = torch.Generator().manual_seed(0)
    network: Tensors = {}
    for place, into, out in (layer for group in GROUPS for layer in group):
        weight = torch.randn((out, into, 3, 3), generator=generator) * (2 / (9 * into)) ** 0.5
        network |= {f"features.{place}.weight": weight, f"features.{place}.bias": torch.full((out,), 0.01)}
    shape = (1, sum(CHANNELS), 1, 1)
    return network, {name: torch.rand(shape, generator=generator) for name in ("alpha", "beta")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dists")
    network, shares = made_up_weights()
    torch.save(network, place / "network.pth")
    digest = hashlib.sha256((place / "network.pth").read_bytes()).hexdigest()
    (place / "network.pth").rename(place / f"vgg16-{digest[:8]}.pth")
    torch.save(shares, place / "weights.pt")
    return place


@pytest.fixture(scope="module")
def dists(folder: Path) -> Dists:
    return load_dists(folder)


def distance_by_torch(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    """The layers written out, in float64."""
    network, shares = made_up_weights()
    x = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).double() / 255
    features = [x]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean.double()[:, None, None]) / deviation.double()[:, None, None]
    hann = torch.outer(torch.tensor([0.5, 1, 0.5]), torch.tensor([0.5, 1, 0.5])).double()
    for number, group in enumerate(GROUPS):
        if number:
            kernel = (hann / hann.sum()).expand(x.shape[1], 1, 3, 3)
            x = (functional.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
        for place, *_ in group:
            weight, bias = (network[f"features.{place}.{kind}"].double() for kind in ("weight", "bias"))
            x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
        features.append(x)
    alpha, beta = (shares[name].double().flatten() for name in ("alpha", "beta"))
    sizes, likeness = list(CHANNELS), 0.0
    for feature, texture, structure in zip(features, alpha.split(sizes), beta.split(sizes), strict=True):
        one, other = feature.flatten(2)
        means = one.mean(1), other.mean(1)
        common = ((one - means[0][:, None]) * (other - means[1][:, None])).mean(1)
        spread = one.var(1, correction=0) + other.var(1, correction=0)
        likeness += float((texture * (2 * means[0] * means[1] + 1e-6) / (means[0] ** 2 + means[1] ** 2 + 1e-6)).sum())
        likeness += float((structure * (2 * common + 1e-6) / (spread + 1e-6)).sum())
    return 1 - likeness / float(alpha.sum() + beta.sum())


@pytest.mark.parametrize("size", [(32, 32), (40, 53)])
def test_the_distance_is_that_of_the_layers_written_out(dists: Dists, size: tuple[int, int]) -> None:
    a = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    b = np.clip(a + RNG.integers(-40, 41, a.shape), 0, 255).astype(np.uint8)
    assert dists.distance(a, b) == pytest.approx(distance_by_torch(a, b), rel=1e-3)  # float32 against float64
    assert dists.distance(a, a) == pytest.approx(0, abs=1e-9)


def test_pictures_too_small_for_the_network_have_no_distance(dists: Dists) -> None:
    small = np.zeros((31, 60, 3), np.uint8)
    assert np.isnan(dists.distance(small, small))
    with pytest.raises(SizeError, match=r"measuring DISTS: the pictures differ in shape"):
        dists.distance(small, np.zeros((40, 41, 3), np.uint8))


def test_weights_that_are_not_on_disk_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"holds no vgg16-\*\.pth, torchvision's VGG-16; .* folder with --dists"):
        load_dists(tmp_path)
    (network,) = folder.glob("vgg16-*.pth")
    (tmp_path / network.name).symlink_to(network)
    monkeypatch.setattr("deploy.measure.weights_on_disk.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=r"weights of DISTS are not in .*; `pip install dists-pytorch` brings"):
        load_dists(tmp_path)
    torch.save({"alpha": torch.zeros(1, 7, 1, 1)}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"not the file that DISTS needs: expected alpha of shape \(1, 1475, 1, "):
        load_dists(tmp_path)
