"""SR3's recorded configurations and networks, with the weights of the recordings."""

from functools import cache

import torch

from deploy.families.sr3.config import Sr3Config
from deploy.families.sr3.network import Sr3Network
from tests.recordings import recorded_json
from tests.synthetic import make

MICRO = Sr3Config(
    inner_channel=8, channel_multiplier=(1, 2, 2), attn_res=(8,), res_blocks=1, norm_groups=4, image_size=16
)
"""Smaller than anything recorded, for what needs many networks."""


def sr3_config(name: str) -> Sr3Config:
    """The configuration of that name, written out by hand from the recorded hyper-parameters."""
    values = recorded_json("configs.json")[name]
    unet = {key: tuple(value) if isinstance(value, list) else value for key, value in values["unet"].items()}
    unet.pop("dropout")
    return Sr3Config(image_size=values["image_size"], **unet)


@cache
def sr3_network(name: str) -> Sr3Network:
    """The network of the recordings, shared: do not change it."""
    return sr3_filled(sr3_config(name))


def sr3_filled(config: Sr3Config) -> Sr3Network:
    """A network with the synthetic weights, ready to run."""
    with torch.device("meta"):
        network = Sr3Network(config)
    weights = {key: torch.from_numpy(make(key, value.shape)) for key, value in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    network.requires_grad_(False)
    network.eval()
    return network
