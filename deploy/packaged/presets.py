"""Presets of the packaged models: they lie beside the checkpoints, and every bundle made of one gets them.

So the packaged bundle and one that is exported from the packaged checkpoint have the same presets and the same fitted
rows. `python -m training.packing presets` writes them.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.bundle import Manifest
from deploy.bundle.manifest import records_from_json
from deploy.packaged.places import IDM_CHECKPOINT, LATENT_CHECKPOINT

KEYS = ("presets", "default_preset", "fitted")
"""Of bundle.json, as they stand in a file of presets."""

CHECKPOINT = "checkpoint_sha256"


def presets_place(checkpoint: Path) -> Path:
    """The file of a packaged checkpoint's presets."""
    return checkpoint.with_suffix(".presets.json")


def with_packaged_presets(manifest: Manifest) -> Manifest:
    """The manifest with the presets and fitted rows of its checkpoint, if that is a packaged one; else as it is."""
    for checkpoint in (IDM_CHECKPOINT, LATENT_CHECKPOINT):
        known = json.loads(presets_place(checkpoint).read_text())
        if known[CHECKPOINT] == manifest.source.sha256:
            return replace(manifest, **records_from_json({key: known[key] for key in KEYS if key in known}))
    return manifest


def presets_of(manifest: Manifest) -> Mapping[str, Any]:
    """What a file of presets says of a bundle's, for bundles of the same checkpoint."""
    whole = manifest.as_json()
    return {CHECKPOINT: manifest.source.sha256} | {key: whole[key] for key in KEYS if key in whole}
