"""LPIPS on made-up weights against PyTorch's own convolutions, and where its weights are looked for.

With the learned weights of lpips 0.1.4 and an AlexNet of random weights, distances agreed with that package's to 1e-8;
neither file may be carried here.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from deploy.errors import CheckpointError, SizeError
from deploy.measure.lpips import CONVOLUTIONS, Lpips, load_lpips
from deploy.measure.weights_on_disk import torch_hub_folder

RNG = np.random.default_rng(0)
Tensors = dict[str, torch.Tensor]


def made_up_weights() -> tuple[Tensors, Tensors]:
    generator = torch.Generator().manual_seed(0)
    network: Tensors = {"classifier.6.bias": torch.zeros(1000)}
    linear: Tensors = {}
    for number, layer in enumerate(CONVOLUTIONS):
        reach = layer.weight[1] * layer.weight[2] * layer.weight[3]
        network[f"features.{layer.place}.weight"] = torch.randn(layer.weight, generator=generator) / reach**0.5
        network[f"features.{layer.place}.bias"] = torch.randn(layer.weight[0], generator=generator) / 10
        linear[f"lin{number}.model.1.weight"] = torch.rand((1, layer.weight[0], 1, 1), generator=generator)
    return network, linear


def save(folder: Path, network: Tensors, linear: Tensors) -> Path:
    torch.save(network, folder / "network.pth")
    digest = hashlib.sha256((folder / "network.pth").read_bytes()).hexdigest()
    torch.save(linear, folder / "alex.pth")
    return (folder / "network.pth").rename(folder / f"alexnet-owt-{digest[:8]}.pth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lpips")
    save(place, *made_up_weights())
    return place


@pytest.fixture(scope="module")
def lpips(folder: Path) -> Lpips:
    return load_lpips(folder)


def distance_by_torch(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    """The layers written out, in float64."""
    network, linear = made_up_weights()
    total = 0.0
    x = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).double() / 127.5 - 1
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]).double(), torch.tensor([0.458, 0.448, 0.450]).double()
    x = (x - shift[:, None, None]) / scale[:, None, None]
    for number, (place, stride, padding, pooled) in enumerate(
        [(0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False)]
    ):
        x = functional.max_pool2d(x, 3, 2) if pooled else x
        weight, bias = (network[f"features.{place}.{kind}"].double() for kind in ("weight", "bias"))
        x = functional.relu(functional.conv2d(x, weight, bias, stride=stride, padding=padding))
        unit = x / x.square().sum(1, keepdim=True).sqrt()
        share = linear[f"lin{number}.model.1.weight"].double()
        total += float(functional.conv2d((unit[:1] - unit[1:]).square(), share).mean())
    return total


@pytest.mark.parametrize("size", [(31, 31), (64, 97), (40, 33)])
def test_the_distance_is_that_of_the_layers_written_out(lpips: Lpips, size: tuple[int, int]) -> None:
    a = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    b = np.clip(a + RNG.integers(-40, 41, a.shape), 0, 255).astype(np.uint8)
    assert lpips.distance(a, b) == pytest.approx(distance_by_torch(a, b), rel=1e-4)  # float32 against float64
    assert lpips.distance(a, b) == lpips.distance(b, a)
    assert lpips.distance(a, a) == 0


def test_pictures_too_small_for_the_network_have_no_distance(lpips: Lpips) -> None:
    assert np.isnan(lpips.distance(np.zeros((30, 60, 3), np.uint8), np.zeros((30, 60, 3), np.uint8)))
    with pytest.raises(SizeError, match=r"measuring LPIPS: the pictures differ in shape"):
        lpips.distance(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 41, 3), np.uint8))


def test_weights_are_found_where_pytorch_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    package = tmp_path / "site" / "lpips"
    for place in (hub, package / "weights" / "v0.1"):
        place.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is looked up, not run')")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert torch_hub_folder() == hub
    with pytest.raises(CheckpointError, match=r"checkpoints holds no alexnet-owt-\*\.pth.* name its folder with"):
        load_lpips()
    network = save(hub, *made_up_weights())
    with pytest.raises(CheckpointError, match=r"learned weights of LPIPS v0\.1 are not in .*v0\.1/alex\.pth; `pip"):
        load_lpips()
    (hub / "alex.pth").rename(package / "weights" / "v0.1" / "alex.pth")
    assert load_lpips().describe() == f"v0.1, {network.stem}"


def test_without_the_package_and_a_folder_it_is_said_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.measure.lpips.torch_hub_folder", lambda: folder)
    monkeypatch.setattr("deploy.measure.weights_on_disk.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match=r"the package lpips, which is not installed; `pip install lpips` brings"):
        load_lpips()


def test_damaged_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    network, linear = made_up_weights()
    sound = save(tmp_path, network, linear)
    damaged = sound.with_name("alexnet-owt-00000000.pth")
    sound.rename(damaged)
    with pytest.raises(CheckpointError, match=r"is damaged: its SHA-256 begins with \w{8}, its name says 00000000"):
        load_lpips(tmp_path)
    damaged.unlink()
    linear["lin2.model.1.weight"] = torch.zeros(1, 7, 1, 1)
    save(tmp_path, network, linear)
    with pytest.raises(CheckpointError, match=r"alex\.pth is not the file .* shape \(1, 384, 1, 1\), found \(1, 7"):
        load_lpips(tmp_path)
