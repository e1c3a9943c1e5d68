"""Lightning checkpoints of the latent family as its training code saves them, with the recordings' weights."""

import numpy as np
import torch

from deploy.sampling.schedule import NoiseSchedule
from tests.latent_models import SCALE_FACTORS
from tests.recordings import manifest, recorded_json
from tests.synthetic import make


def latent_schedule(name: str) -> NoiseSchedule:
    """The schedule of that configuration."""
    values = recorded_json("configs.json")[name]
    return NoiseSchedule.from_kind("sqrtlinear", values["timesteps"], values["linear_start"], values["linear_end"])


def latent_state(name: str) -> dict[str, torch.Tensor]:
    """The `state_dict` entry: schedule tables, scale factor, U-Net, its moving average, auto-encoder."""
    tables = latent_schedule(name).training_tables() if name in SCALE_FACTORS else {}
    state = {}
    for tensor, (shape, dtype) in manifest(name).items():
        if tensor in tables:
            state[tensor] = torch.from_numpy(tables[tensor].astype(np.float32))
        elif tensor == "scale_factor":
            state[tensor] = torch.tensor(SCALE_FACTORS[name])
        elif dtype == "int32":
            state[tensor] = torch.tensor(7, dtype=torch.int32)
        else:
            state[tensor] = torch.from_numpy(make(tensor, shape))
    return state
