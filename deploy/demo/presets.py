"""The presets of the two demo models, in place of those that every export starts with.

The model cards hold the figures that they were chosen by. PSNR rewards blur, so that `draft` has the highest.
"""

from dataclasses import replace

from deploy.bundle import Bundle, BundleWriter
from deploy.families.table import family_named


def with_demo_presets(bundle: Bundle) -> Bundle:
    """The bundle of a demo model with its family's `demo_presets`."""
    presets = {name: dict(values) for name, values in family_named(bundle.manifest.family).demo_presets.items()}
    with BundleWriter.update(bundle) as writer:
        return writer.commit(replace(bundle.manifest, presets=presets, default_preset="balanced"))
