"""Checkpoint files as the authors' training codes save them, with the weights of the recordings."""

from pathlib import Path

import numpy as np
import torch

from deploy.sampling.schedule import NoiseSchedule
from tests.latent_models import latent_network
from tests.recordings import manifest, recorded_json
from tests.synthetic import make

IDM_SCHEDULE = NoiseSchedule.from_kind("linear", 2000, 1e-6, 1e-2)


def sr3_state(name: str = "sr3_tiny") -> dict[str, torch.Tensor]:
    """The state dict of SR3's `<name>_gen.pth`: schedule tables and parameters."""
    tables = IDM_SCHEDULE.training_tables()
    return {
        tensor: torch.from_numpy(tables[tensor].astype(np.float32) if tensor in tables else make(tensor, shape))
        for tensor, (shape, _) in manifest(name).items()
    }


def idm_state(name: str, *, unused: bool = True) -> dict[str, torch.Tensor]:
    """The state dict of `<name>_gen.pth`: schedule tables, live and unused parameters."""
    tables = IDM_SCHEDULE.training_tables()
    buffers = set(recorded_json("manifests/buffers.json")[name])
    state = {}
    for tensor, (shape, _) in manifest(name).items():
        if tensor in tables:
            state[tensor] = torch.from_numpy(tables[tensor].astype(np.float32))
        elif tensor in buffers:
            state[tensor] = torch.zeros(shape)
        elif unused or not tensor.startswith(("imnet.", "denoise_fn.final_down", "denoise_fn.final_linear")):
            state[tensor] = torch.from_numpy(make(tensor, shape))
    return state


def save_sr3(folder: Path, name: str = "sr3_tiny") -> Path:
    """An SR3 checkpoint file in `folder`."""
    path = folder / f"{name}_gen.pth"
    torch.save(sr3_state(name), path)
    return path


def save_idm(folder: Path, name: str = "idm_micro") -> Path:
    """An IDM checkpoint file in `folder`."""
    path = folder / f"{name}_gen.pth"
    torch.save(idm_state(name), path)
    return path


def save_latent(folder: Path, name: str = "latent_sr_tiny") -> Path:
    """A Lightning checkpoint of the latent family in `folder`, without its moving average."""
    state = latent_network(name).state_dict()
    path = folder / f"{name}.ckpt"
    torch.save({"state_dict": {key: value.clone() for key, value in state.items()}, "epoch": 1}, path)
    return path
