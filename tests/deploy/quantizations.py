"""What bundle.json might say of int8, made up."""

from typing import Any

from deploy.bundle.quantization import HeldOut, Int8Target, LevelCorrection, Quantization

HELD_OUT = HeldOut(
    preset="balanced",
    pictures=6,
    psnr_drop=0.0314,
    fidelity_db=52.8,
    worst_db=44.0,
    photographs=5,
    ssimulacra2_drop=0.12,
)


def int8_target(**changes: Any) -> Int8Target:
    """A target with one range, no numbers of its own and no corrections."""
    plain: dict[str, Any] = {"graph": "no-such-file", "edges": (0.0, 1.0), "rows": {}, "constants": {}}
    return Int8Target(**{**plain, "weights": (), "noise_corrections": (), **changes})


def correction(noise_level: float, gain: float = 1.0, offset: float = 0.0, variance: float = 0.0) -> LevelCorrection:
    """Of one channel."""
    return LevelCorrection(noise_level=noise_level, gain=(gain,), offset=(offset,), estimate_variance=variance)


def quantization(**targets: Int8Target) -> Quantization:
    """As a calibration's trials write it."""
    return Quantization(targets=targets, noise_levels=(0.5,))
