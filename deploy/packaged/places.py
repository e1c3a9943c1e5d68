"""Where the packaged checkpoints, bundle and pictures lie, and which bundle a command means when there is none."""

from collections.abc import Callable
from pathlib import Path

from deploy.bundle import discover

PACKAGED = Path(__file__).parent

IDM_CHECKPOINT = PACKAGED / "checkpoints" / "idm-demo.safetensors"
LATENT_CHECKPOINT = PACKAGED / "checkpoints" / "latent-demo.safetensors"
IDM_CARD = PACKAGED / "MODEL_CARD_idm.md"
LATENT_CARD = PACKAGED / "MODEL_CARD_latent.md"
IDM_BUNDLE = PACKAGED / "bundles" / "idm-demo.bundle"

SAMPLE_IMAGES = PACKAGED / "samples"
"""Low-resolution pictures, 64x64, reduced four times from those of the same name in SAMPLE_ORIGINALS."""
SAMPLE_ORIGINALS = SAMPLE_IMAGES / "originals"
FREE_SAMPLES = (SAMPLE_IMAGES / "chelsea.png", SAMPLE_IMAGES / "coffee.png")
"""Those under CC0, which any bundle may carry; whoever passes on another one has to name its author."""
CALIBRATION_IMAGES = PACKAGED / "calibration"
"""Crops of photographs that training saw."""
EVALUATION_IMAGES = PACKAGED / "evaluation"
"""Originals cut from photographs that no training saw, and apart from those in CALIBRATION_IMAGES."""


def bundle_or_packaged(
    explicit: Path | None, say: Callable[[str], None], here: Path | None = None, *, named: str = "with --bundle"
) -> Path:
    """The bundle that is named or found, as `discover` finds it; where there is none, the packaged one, said aloud.

    named: how a command is told of one.
    """
    path = discover(here, explicit=explicit, fallback=IDM_BUNDLE)
    if path == IDM_BUNDLE and explicit is None:
        say(f"no bundle here: using the packaged demo model, a small one; name yours {named}")
    return path


def packaged_pictures() -> list[Path]:
    """The packaged low-resolution pictures, by name."""
    return sorted(SAMPLE_IMAGES.glob("*.png"))
