"""The presets of the two demo models, chosen by `idm-deploy evaluate` on 24 crops of three held-out photographs.

The model cards hold the figures that they were chosen by.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deploy.bundle import Bundle, BundleWriter

DEMO_PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "idm": {
        "draft": {"equation": "ddim", "steps": 2, "start": 0.5, "consistency": 1.0},
        "balanced": {"equation": "dpmpp-2m", "steps": 5, "placement": "logsnr", "start": 0.5, "consistency": 1.0},
        "best": {"equation": "ddim", "steps": 8, "placement": "logsnr", "start": 0.2, "consistency": 1.0},
    },
    "latent": {
        "draft": {"equation": "dpmpp-2m", "steps": 4},
        "balanced": {"equation": "ddim", "steps": 10},
        "best": {"equation": "ddim", "steps": 20},
    },
}
"""By family. PSNR rewards blur, so that `draft` has the highest. `balanced` of IDM takes the fewest steps that keep the
detail of 200: five of `ddim` have 0.6 dB more PSNR, and a sixth of the detail less."""


def with_demo_presets(bundle: Bundle) -> Bundle:
    """The bundle of a demo model with its presets in place of those that every export starts with."""
    presets = {name: dict(values) for name, values in DEMO_PRESETS[bundle.manifest.family].items()}
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, presets=presets, default_preset="balanced"))
