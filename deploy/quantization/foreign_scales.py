"""Activation scales that a checkpoint brings along from pytorch-quantization or nvidia-modelopt.

Both libraries put a quantizer before the input of every layer and save the largest absolute value it is made for, as a
buffer of one number: `<layer>._input_quantizer._amax` (pytorch-quantization) or `<layer>.input_quantizer._amax`
(nvidia-modelopt). The codes are signed, symmetric and 8 bits wide:

    scale = amax / 127,   code = round(x / scale) in -127..127

Example: amax 2.54 gives the scale 0.02; 1.0 gets code 50, 3.0 gets code 127 and stands for 2.54.

`export` carries those that a layer of the exported denoiser has, `quantize --scales checkpoint` uses them. A layer
keeps its scale where its input is the same tensor as in the authors' network: the halves of a split shortcut share that
of the whole, a folded implicit layer has none, since its input is another tensor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.choose.quantizer import Form, Quantizer
from deploy.bundle import Bundle
from deploy.errors import BundleError
from deploy.quantization.settings import CHECKPOINT, QuantizeSettings
from deploy.stored_tensors import FLOATS, StoredTensor

if TYPE_CHECKING:
    from calibration.observe.layers import Layer  # which needs onnx, and `inspect` does not
    from deploy.quantization.recipes import Scales  # which needs the run time, and `export` only the names here

Say = Callable[[str], None]

BUFFER_OF_LIBRARY = {
    "pytorch-quantization": "._input_quantizer._amax",
    "nvidia-modelopt": ".input_quantizer._amax",
}
"""How the name of a layer's input quantizer goes on after the name of the layer."""

LARGEST_CODE = 127
HALVES = (".a", ".b")
"""What `split-shortcut` adds to the name of a convolution."""

TABLE = "checkpoint_amax"
"""The table of a bundle that holds them."""


def activation_amax(stored: Mapping[str, StoredTensor]) -> dict[str, float]:
    """The largest absolute input of every layer that has a calibrated quantizer of one number, by the layer's name.

    A quantizer that was never calibrated (not a number, or 0) or has a number per channel is passed over.
    """
    found = {}
    for name, tensor in stored.items():
        suffix = next((end for end in BUFFER_OF_LIBRARY.values() if name.endswith(end)), None)
        if suffix is None or tensor.dtype not in FLOATS or int(np.prod(tensor.shape)) != 1:
            continue
        amax = float(tensor.read().astype(np.float32).reshape(()))
        if np.isfinite(amax) and amax > 0:
            found[name.removesuffix(suffix)] = amax
    return dict(sorted(found.items()))


def library_of(names: Iterable[str]) -> str | None:
    """Which library's input quantizers are among the names of a state dict; None without any."""
    listed = tuple(names)
    return next((lib for lib, end in BUFFER_OF_LIBRARY.items() if any(name.endswith(end) for name in listed)), None)


def amax_of_layers(layers: "Sequence[Layer]", of_modules: Mapping[str, float]) -> dict[str, float]:
    """Those of a graph's layers, by module; what belongs to layers that the graph does not have is left out."""
    found = {}
    for module in (layer.module for layer in layers):
        whole = module[:-2] if module.endswith(HALVES) else module
        amax = of_modules.get(module, of_modules.get(whole))
        if amax is not None:
            found[module] = amax
    return found


def table_from_amax(of_modules: Mapping[str, float]) -> NDArray[np.void]:
    """One row per module, sorted by name: what a bundle stores."""
    width = max((len(name) for name in of_modules), default=1)
    return np.array(sorted(of_modules.items()), dtype=[("module", f"U{width}"), ("amax", "<f4")])


def amax_from_bundle(bundle: Bundle) -> dict[str, float]:
    """What `table_from_amax` stored; a BundleError if the bundle has none."""
    if TABLE not in bundle.manifest.tables:
        raise BundleError(
            f"{bundle.path} carries no activation scales: the checkpoint it was exported from has no quantizer's _amax"
            " for a layer of the denoiser. Leave out --scales checkpoint, or export a checkpoint that was calibrated"
            " with pytorch-quantization or nvidia-modelopt."
        )
    rows = bundle.table(TABLE)
    if rows.dtype.names != ("module", "amax"):
        raise BundleError(
            f"{bundle.path}: the table {TABLE} has the columns {rows.dtype.names}, expected module and amax; it was"
            " not written by this tool. Export the checkpoint again."
        )
    return {str(module): float(amax) for module, amax in rows.tolist()}


def quantizer_from_amax(amax: float, form: Form) -> Quantizer:
    """The scale amax / 127 in the codes that a form has: a window around 0, where unsigned codes have 128."""
    lowest = -(form.levels // 2)
    return Quantizer(scale=amax / LARGEST_CODE, lowest=lowest, highest=lowest + form.levels - 1)


def amax_for(bundle: Bundle, settings: QuantizeSettings, layers: "Sequence[Layer]", say: Say) -> dict[str, float]:
    """The values that the settings ask for, by module, told in one line; none if all scales shall be calibrated."""
    if settings.activation_scales != CHECKPOINT:
        return {}
    amax = amax_from_bundle(bundle)
    taken = [layer for layer in layers if layer.module in amax]
    say(
        f"activation scales: {len(taken)} of {len(layers)} layers take theirs from the checkpoint, symmetric and the"
        f" same at every timestep; {len(layers) - len(taken)} are calibrated"
    )
    return amax


def with_checkpoint_scales(scales: "Scales", layers: "Sequence[Layer]", amax: Mapping[str, float]) -> "Scales":
    """The scales with those of the checkpoint in place of the calibrated ones, where it has any.

    Layers that read the same tensor have it coded once: the largest of their values holds for all.
    """
    of_tensor: dict[str, float] = {}
    for layer in layers:
        if layer.module in amax:
            of_tensor[layer.input] = max(amax[layer.module], of_tensor.get(layer.input, 0.0))
    taken = {name: (quantizer_from_amax(one, scales.form),) * len(scales.ranges) for name, one in of_tensor.items()}
    return replace(scales, quantizers={**scales.quantizers, **taken})
