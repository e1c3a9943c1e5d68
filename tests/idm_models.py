"""IDM's recorded configurations and networks, with the weights of the recordings."""

from functools import cache
from typing import Any

import torch
from torch import nn

from deploy.families.idm.config import IdmConfig
from deploy.families.idm.network import IdmNetwork
from tests.recordings import recorded_json
from tests.synthetic import make


def idm_config(name: str, **changes: Any) -> IdmConfig:
    """The configuration of that name, written out by hand from the recorded hyper-parameters."""
    values = recorded_json("configs.json")[name]
    unet = {key: tuple(value) if isinstance(value, list) else value for key, value in values["unet"].items()}
    unet.pop("dropout")
    fields = {"image_size": values["image_size"], "n_resblocks": values["encoder"]["n_resblocks"], **unet, **changes}
    return IdmConfig(**fields)


@cache
def idm_network(name: str) -> IdmNetwork:
    """The network of the recordings, shared: do not change it."""
    return filled(idm_config(name))


def filled(config: IdmConfig) -> IdmNetwork:
    """A network with the synthetic weights, ready to run."""
    with torch.device("meta"):
        network = IdmNetwork(config)
    weights = {key: torch.from_numpy(make(key, value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return frozen(network)


def frozen(network: IdmNetwork) -> IdmNetwork:
    nn.Module.requires_grad_(network, False)
    network.eval()
    return network
