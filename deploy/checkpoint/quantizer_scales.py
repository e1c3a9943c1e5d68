"""Activation scales that a checkpoint brings along from pytorch-quantization or nvidia-modelopt.

Both libraries put a quantizer before the input of every layer and save the largest absolute value it is made for, as a
buffer of one number: `<layer>._input_quantizer._amax` (pytorch-quantization) or `<layer>.input_quantizer._amax`
(nvidia-modelopt). The codes are signed, symmetric and 8 bits wide:

    scale = amax / 127,   code = round(x / scale) in -127..127

Example: amax 2.54 gives the scale 0.02; 1.0 gets code 50, 3.0 gets code 127 and stands for 2.54.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deploy.checkpoint.stored_tensors import FLOATS, Tensor

if TYPE_CHECKING:
    from calibration.observe.layers import Layer  # which needs onnx, and `inspect` does not


BUFFER_OF_LIBRARY = {
    "pytorch-quantization": "._input_quantizer._amax",
    "nvidia-modelopt": ".input_quantizer._amax",
}
"""How the name of a layer's input quantizer goes on after the name of the layer."""

HALVES = (".a", ".b")
"""What `split-shortcut` adds to the name of a convolution."""

TABLE = "checkpoint_amax"
"""The table of a bundle that holds them."""


def activation_amax(stored: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest absolute input of every layer that has a calibrated quantizer of one number, by the layer's name.

    A quantizer that was never calibrated (not a number, or 0) or has a number per channel is passed over.
    """
    amax_of_layer = {}
    for name, tensor in stored.items():
        suffix = next((end for end in BUFFER_OF_LIBRARY.values() if name.endswith(end)), None)
        if suffix is None or tensor.dtype not in FLOATS or int(np.prod(tensor.shape)) != 1:
            continue
        amax = float(tensor.read().astype(np.float32).reshape(()))
        if np.isfinite(amax) and amax > 0:
            amax_of_layer[name.removesuffix(suffix)] = amax
    return dict(sorted(amax_of_layer.items()))


def library_of(names: Iterable[str]) -> str | None:
    """Which library's input quantizers are among the names of a state dict; None without any."""
    listed = tuple(names)
    return next((lib for lib, end in BUFFER_OF_LIBRARY.items() if any(name.endswith(end) for name in listed)), None)


def amax_of_layers(layers: "Sequence[Layer]", of_modules: Mapping[str, float]) -> dict[str, float]:
    """The largest activations of a graph's layers, by module; those of layers that it does not have are left out."""
    amax_of_module = {}
    for module in (layer.module for layer in layers):
        whole = module[:-2] if module.endswith(HALVES) else module
        amax = of_modules.get(module, of_modules.get(whole))
        if amax is not None:
            amax_of_module[module] = amax
    return amax_of_module


def table_from_amax(of_modules: Mapping[str, float]) -> NDArray[np.void]:
    """The table that a bundle stores: a row per module, sorted by name."""
    width = max((len(name) for name in of_modules), default=1)
    return np.array(sorted(of_modules.items()), dtype=[("module", f"U{width}"), ("amax", "<f4")])
