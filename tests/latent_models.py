"""The latent family's configurations and networks, with the weights of the recordings."""

from functools import cache
from typing import Any

import torch
from torch import nn

from deploy.families.compvis.config import UNetConfig
from deploy.families.latent.config import FirstStageConfig, Kind, LatentConfig
from deploy.families.latent.first_stage import FirstStage
from deploy.families.latent.network import LatentNetwork
from tests.recordings import recorded_json
from tests.synthetic import make

KINDS: dict[str, Kind] = {
    "super-resolution": "super-resolution",
    "unconditional generation": "generation",
    "first stage only": "first-stage",
}
LR_SIZES = {"latent_sr_ffhq_16_128": 16, "latent_sr_div2k_48_192": 48, "latent_sr_df2k_48_192": 48}
TINY_LR_SIZE = 8
SCALE_FACTORS = {"latent_sr_tiny": 4.0, "latent_gen_tiny": 12.0, "latent_sr_ffhq_16_128": 1.0}
LATENT_NAMES = tuple(name for name, values in recorded_json("configs.json").items() if values.get("kind") in KINDS)


def latent_config(name: str) -> LatentConfig:
    """The configuration of that name, written out by hand from the recorded hyper-parameters."""
    values = recorded_json("configs.json")[name]
    first_stage = values["first_stage"]
    named = ("image_size", "channels", "inp_size", "default_output_size", "conditioning_key")
    rates = ("timesteps", "linear_start", "linear_end")
    kind = KINDS[values["kind"]]
    return LatentConfig(
        kind=kind,
        first_stage=FirstStageConfig(**_tuples({**first_stage["ddconfig"], **first_stage["liifconfig"]})),
        unet=UNetConfig(**_tuples(values["unet"])) if "unet" in values else None,
        lr_size=LR_SIZES.get(name, TINY_LR_SIZE) if kind == "super-resolution" else None,
        **{key: values[key] for key in (*named, *rates) if key in values},
    )


@cache
def latent_network(name: str, *, ema: bool = False) -> LatentNetwork:
    """The network of the recordings; with `ema` the U-Net has the EMA weights. Shared: do not change it."""
    with torch.device("meta"):
        network = LatentNetwork(latent_config(name))
    fill_parameters(network, ema=ema)
    network.scale_factor = torch.tensor(SCALE_FACTORS[name])
    return network.eval()


def fill_parameters(network: nn.Module, *, prefix: str = "", ema: bool = False) -> None:
    """Gives every parameter the synthetic weights of its own name, or of its EMA shadow's."""
    weights = {}
    for name, parameter in network.named_parameters():
        shadow = ema and name.startswith("model.")
        source = ema_name(name) if shadow else prefix + name
        weights[name] = torch.from_numpy(make(source, parameter.shape))
    network.load_state_dict(weights, strict=False, assign=True)


def ema_name(name: str) -> str:
    """Where a checkpoint keeps the moving average of a U-Net parameter: no dots below `model.`."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def first_stage(name: str) -> FirstStage:
    """The auto-encoder inside that network, with the weights it has there."""
    return latent_network(name).first_stage_model


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
