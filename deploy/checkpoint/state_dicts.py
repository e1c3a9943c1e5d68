"""Which of the dictionaries in a checkpoint file holds the weights, and under which names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deploy.checkpoint.stored_tensors import Tensor
from deploy.checkpoint.weights_files import Contents, is_tensor
from deploy.errors import CheckpointError
from deploy.families.detection import Shape

# In this order: Lightning and most trainers; common trainers; BasicSR; wrappers.
RAW_KEYS = ("state_dict", "model_state_dict", "model", "params", "network", "net", "netG", "generator", "weights")
EMA_KEYS = ("params_ema", "ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model")
WRAPPERS = ("module.", "_orig_mod.")
"""What distributed training and torch.compile put before every name."""
QUANTIZER_BUFFERS = ("_amax", "._scale", "._zero_point", "._pre_quant_scale")
"""What quantization-aware training (pytorch-quantization, ModelOpt) adds beside the weights."""
OPTIMIZER = "optimizer"
"""The key of a training's state in what training codes save."""
DEEPEST = 3


@dataclass(frozen=True)
class State:
    """The tensors of one state dict. `averaged`: they are the moving average, under the live names."""

    tensors: dict[str, Tensor]
    averaged: bool

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each tensor."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def state_from_contents(contents: Contents, weights: str) -> State:
    """The state dict to read: for "ema" a separate one if there is one, else the raw one, else what there is."""
    raw, averaged = _find(contents.root, RAW_KEYS), _find_averaged(contents.root)
    place = averaged if averaged is not None and (weights == "ema" or raw is None) else raw
    if place is None and isinstance(contents.root, Mapping) and OPTIMIZER in contents.root:
        raise CheckpointError(
            f"{contents.path} holds the state of an optimizer, to go on training with, and no network; name the file "
            "that was saved beside it (of x_opt.pth, x_gen.pth)."
        )
    if place is None:
        raise CheckpointError(
            f"{contents.path} holds no state_dict: no dictionary of named tensors, at its top or under the usual keys "
            f"({', '.join(RAW_KEYS)}). A network that was saved whole has to be saved as its state_dict()."
        )
    return State(_unwrapped(dict(contents.tensors(place))), averaged=place is averaged)


def _find(value: Any, keys: tuple[str, ...], depth: int = 0) -> Mapping[Any, Any] | None:
    """The first dictionary of tensors under the keys, else the dictionary itself if it has tensors."""
    if not isinstance(value, Mapping) or depth > DEEPEST:
        return None
    for key in keys:
        tensors = _find(value.get(key), RAW_KEYS, depth + 1)
        if tensors is not None:
            return tensors
    return value if any(is_tensor(name, entry) for name, entry in value.items()) else None


def _find_averaged(value: Any) -> Mapping[Any, Any] | None:
    averaged = _find(value, EMA_KEYS)
    return None if averaged is value else averaged


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without what wrappers put before every name."""
    for prefix in WRAPPERS * 2:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
