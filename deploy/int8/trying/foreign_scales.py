"""Activation scales of a checkpoint, carried by its bundle, in place of calibrated ones.

`export` carries those that a layer of the exported denoiser has, `quantize --scales checkpoint` uses them. A layer
keeps its scale where its input is the same tensor as in the authors' network: the halves of a split shortcut share that
of the whole, a folded implicit layer has none, since its input is another tensor. What the scales mean is said in
`deploy.checkpoint.quantizer_scales`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from calibration.choose.quantizer import Form, Quantizer
from deploy.bundle import Bundle
from deploy.checkpoint.quantizer_scales import TABLE
from deploy.errors import BundleError
from deploy.int8.settings import CHECKPOINT, QuantizeSettings
from engines.progress import Say

if TYPE_CHECKING:
    from calibration.observe.layers import Layer  # which needs onnx, and `inspect` does not
    from calibration.passes.recipes import Scales  # which needs the run time, and `export` only the names here


LARGEST_CODE = 127


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
    covered = [layer for layer in layers if layer.module in amax]
    say(
        f"activation scales: {len(covered)} of {len(layers)} layers take theirs from the checkpoint, symmetric and the"
        f" same at every timestep; {len(layers) - len(covered)} are calibrated"
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
    quantizers = {
        name: (quantizer_from_amax(amax_of_tensor, scales.form),) * len(scales.ranges)
        for name, amax_of_tensor in of_tensor.items()
    }
    return replace(scales, quantizers={**scales.quantizers, **quantizers})
