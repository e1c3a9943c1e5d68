"""calibration.json: every scale that was chosen, sorted and plain, so that two calibrations can be compared by diff.

It lies in the report folder. In the bundle it would take a quarter of what the demo's int8 weights take, and hold
nothing that the graphs do not; the bundle keeps its hash.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from calibration.choose.quantizer import Quantizer
from calibration.choose.recipe import LayerRecipe, Recipe
from calibration.passes.recipes import Scales
from deploy.int8.recording.trajectories import CalibrationPlans
from deploy.int8.settings import QuantizeSettings
from deploy.int8.trying.decoder import TargetDecoder
from deploy.int8.trying.drafts import NoiseCorrections


def record_of_scales(
    settings: QuantizeSettings,
    plans: CalibrationPlans,
    scales: Mapping[str, Scales],
    recipes: Mapping[str, Recipe],
    corrections: NoiseCorrections,
) -> dict[str, Any]:
    """Everything as JSON."""
    return {
        "settings": settings.as_dict(),
        "sampling": [sampling.describe() for sampling in plans.samplings],
        "noise_levels": list(plans.levels),
        "targets": {
            target: {
                "form": type(scales[target].form).__name__.lower(),
                "edges": list(scales[target].ranges.edges),
                "partition_costs": [partition.cost for partition in scales[target].partitions],
                "layers": {layer.node: _layer(layer) for layer in recipe.layers},
                "noise_corrections": to_builtins(corrections.get(target, ())),
            }
            for target, recipe in recipes.items()
        },
    }


def record_of_decoder(decoder: Mapping[str, TargetDecoder]) -> dict[str, Any]:
    """The same of the latent decoder, by target and graph."""
    return {
        target: {
            **chosen.as_json(),
            "layers": {
                name: {layer.node: _layer(layer) for layer in recipe.layers} for name, recipe in chosen.recipes.items()
            },
        }
        for target, chosen in decoder.items()
    }


def text_of_record(record: Mapping[str, Any]) -> str:
    """The content of calibration.json."""
    return json.dumps(record, indent=1, sort_keys=True)


def hash_of_record(record: Mapping[str, Any]) -> str:
    """SHA-256 of calibration.json: the bundle, which does not hold the file, tells with it which one is its own."""
    return hashlib.sha256(text_of_record(record).encode()).hexdigest()


def _layer(layer: LayerRecipe) -> dict[str, Any]:
    described: dict[str, Any] = {
        "inputs": [_quantizer(quantizer) for quantizer in layer.inputs],
        "weight_scales": [float(scale) for scale in layer.weight_scales],
    }
    if layer.factors is not None:
        described["factors"] = [float(factor) for factor in layer.factors]
    if layer.output is not None:
        described["output"] = {
            "centres": layer.output.centres.tolist(),
            "steps": [float(step) for step in layer.output.steps],
            "gains": [float(gain) for gain in layer.output.gains],
        }
    if layer.corrections is not None:
        described["corrections"] = [[float(value) for value in row] for row in layer.corrections]
    return described


def _quantizer(quantizer: Quantizer) -> dict[str, Any]:
    return {"scale": quantizer.scale, "lowest": quantizer.lowest, "highest": quantizer.highest}
