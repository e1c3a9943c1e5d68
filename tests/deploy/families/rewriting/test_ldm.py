"""LDM-SR's rewritten graphs against its network: all rewrites, each left out, odd sizes, blocks of any size."""

import numpy as np
import pytest
import torch

from deploy.families.cases import chain
from deploy.families.ldm.family import LDM, axes_of_graphs, trial
from deploy.families.ldm.network import LdmNetwork, PublishedLdm
from deploy.families.ldm.rewrites import LdmParts
from deploy.families.rewriting.torch_ops import PartRunner
from deploy.families.sizes import EngineSizes
from deploy.images.sizes import Size
from tests.ldm_models import SMALL, networks, our_network

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network() -> LdmNetwork:
    made = our_network(SMALL, *networks(SMALL))
    made.scale_factor = torch.tensor(0.5)  # a power of two, so that no code changes by its rounding
    return made


@pytest.mark.parametrize("left_out", [None, *LDM.rewrites])
def test_graphs_compute_what_the_network_does(network: LdmNetwork, left_out: str | None) -> None:
    case = trial(SMALL, Size(48, 80), 2)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    parts = LdmParts(SMALL, weights, frozenset(LDM.rewrites) - {left_out}).parts()
    runners = {part.name: PartRunner(part) for part in parts}

    def run(graph: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = runners[graph].run(runners[graph].tensors(feeds))
        return {name: value.numpy() for name, value in outputs.items()}

    feeds = chain(case, list(runners), run)
    for name, expected in PublishedLdm(network, case).answers().items():
        assert np.abs(feeds[name] - expected).max() < TOLERANCE, name
    assert ("tabulate" in runners, "condition" in runners) == (
        left_out != "tabulate-time",
        left_out != "condition-once",
    )


def test_engines_are_built_for_the_latents_of_padded_inputs() -> None:
    sizes = EngineSizes(sizes=(Size(40, 40), Size(64, 100), Size(128, 128)), scales=(4.0, 4.0, 4.0))
    axes = axes_of_graphs(SMALL, sizes)
    assert axes("denoise")["height"] == (12, 16, 32) and axes("denoise")["width"] == (12, 28, 32)
    assert axes("guess")["width"] == (48, 112, 128)
    assert axes("attend")["pixels"] == (144, 448, 1024) and axes("attend")["asking"][0] == 1
    assert axes("tabulate")["rows"] == (1, 20, 2000)
