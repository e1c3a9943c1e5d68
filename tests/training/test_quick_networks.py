import dataclasses

import pytest
import torch

from deploy.errors import ConfigError
from deploy.families.idm.network import IdmNetwork
from deploy.families.latent.first_stage import FirstStage
from tests.rounding import assert_same_but_for_rounding
from tests.training.small import CPU, SMALL_FIRST_STAGE, SMALL_IDM
from training.quick_decoder import grid_tables, quick_picture
from training.quick_networks import quicken


def twin_networks() -> tuple[IdmNetwork, IdmNetwork]:
    torch.manual_seed(0)
    published, quick = IdmNetwork(SMALL_IDM), IdmNetwork(SMALL_IDM)
    quick.load_state_dict(published.state_dict())
    return published, quicken(quick)


def predicted(network: IdmNetwork, size: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    low, x = torch.randn(2, 3, 6, 7, generator=generator), torch.randn(2, 3, *size, generator=generator)
    scaler, level = torch.tensor([[0.3], [0.8]]), torch.tensor([[0.2], [0.95]])
    return network.denoise(x, network.encode(low, size), scaler, level)


# Doubling takes another path than the other sizes.
@pytest.mark.parametrize("size", [(16, 24), (13, 18)])
def test_the_quick_network_computes_the_published_one(size: tuple[int, int]) -> None:
    published, quick = twin_networks()
    assert list(quick.state_dict()) == list(published.state_dict())
    wanted, ours = predicted(published, size), predicted(quick, size)
    assert_same_but_for_rounding(ours, wanted, published)  # sums in another order


@pytest.mark.parametrize("size", [(16, 24), (13, 18)])
def test_the_quick_network_has_the_published_gradients(size: tuple[int, int]) -> None:
    published, quick = twin_networks()
    for network in (published, quick):
        predicted(network, size).square().mean().backward()
    for (name, wanted), ours in zip(published.named_parameters(), quick.parameters(), strict=True):
        assert wanted.grad is not None and ours.grad is not None, name
        scale = float(wanted.grad.abs().max()) + 1e-6
        assert float((ours.grad - wanted.grad).abs().max()) < 1e-4 * scale + 1e-6, name


def test_under_bfloat16_the_quick_network_ends_in_float32_and_stays_near() -> None:
    published, quick = twin_networks()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours = predicted(quick, (16, 24))
        wanted = predicted(published, (16, 24))
    assert ours.dtype == torch.float32
    # bfloat16 keeps 8 bits, 0.4 %; some ten layers in a row.
    assert float((ours - wanted).abs().max()) < 0.1


@pytest.mark.parametrize("size", [(16, 12), (31, 17), (5, 6)])
def test_the_quick_decoder_computes_the_published_one(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = FirstStage(SMALL_FIRST_STAGE)
    features = network.decoder_features(torch.randn(2, 4, 4, 3))
    ours = quick_picture(network.decoder.inr, features, grid_tables((4, 3), size, CPU))
    torch.testing.assert_close(ours, network.decoder.inr.picture(features, size), atol=1e-5, rtol=0)


def test_a_decoder_without_cells_is_refused() -> None:
    config = dataclasses.replace(SMALL_FIRST_STAGE, cell_decode=False)
    decoder = FirstStage(config).decoder.inr
    with pytest.raises(ConfigError, match="needs cell decoding and the local ensemble"):
        quick_picture(decoder, torch.zeros(1, 16, 4, 4), grid_tables((4, 4), (8, 8), CPU))
