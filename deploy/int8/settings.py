"""What `idm-deploy quantize` is told; the defaults stand here."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.choose.clipping import Entropy, Method, MinMax, Mse, Percentile
from calibration.choose.partition import FixedRanges, MarginalGain, RangeCount
from calibration.targets.table import TARGETS
from deploy.errors import PlanError, nearest_name

CLIPPINGS: dict[str, Method] = {
    "mse": Mse(),
    "percentile": Percentile(),
    "entropy": Entropy(),
    "minmax": MinMax(),
}
"""Ways to choose a scale, by the names that users type."""

TARGET_NAMES = tuple(TARGETS)
"""The targets that get graphs unless told otherwise; graphs for GPUs are plain files, made on any machine."""

CALIBRATED = "calibrated"
CHECKPOINT = "checkpoint"
"""Where activation scales come from."""

PLAIN_STEPS = 20
"""Plain `ddim` with this many steps from pure noise is recorded beside the default preset: the aids of a preset hide
errors and skip noise levels, and a bundle must serve whoever leaves them out."""


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How to calibrate and what to accept; checked when made, all problems named at once."""

    scales: tuple[float, ...] = (4.0, 8.0, 2.0)
    """Each picture is recorded at one of them, in turn."""
    crop: int = 128
    """Side of the outputs that are recorded, in pixels; for generation the latent's own size."""
    pictures: int | None = None
    """The first so many pictures of the calibration set; None: all of it."""
    seed: int = 0
    ranges: int | None = None
    """Timestep ranges; None: as many as pay."""
    clipping: str = "mse"
    activation_scales: str = CALIBRATED
    """"checkpoint": of the layers that the checkpoint has them for, as pytorch-quantization or nvidia-modelopt saved
    them: symmetric, one for all timesteps, so there is one range."""
    rounding: str = "second-order"
    equalise: bool = True
    """Whether channels of an activation are brought to one size before they are coded."""
    targets: tuple[str, ...] = TARGET_NAMES
    max_psnr_drop: float = 0.05
    """dB that the mean PSNR against the originals may lose at the default preset."""
    min_fidelity: float | None = None
    """dB between int8 and float pictures from the same noise that the worst calibration picture must reach in plain
    sampling (without the aids of the default preset, which hide errors)."""
    float_share: float = 0.03
    """Part of the multiply-accumulates that the most sensitive layers may take to stay in float, needed or not."""
    correct_bias: bool = False
    """Off: it takes a pass over the recorded inputs and hardly moves the fidelity (docs/measurements.md)."""
    correct_noise: bool = True
    strict: bool = False

    def __post_init__(self) -> None:
        problems = [*self._number_problems(), *self._name_problems()]
        if problems:
            raise PlanError(f"The quantization cannot be planned: {'; '.join(problems)}.")

    @property
    def method(self) -> Method:
        """How scales are chosen."""
        return CLIPPINGS[self.clipping]

    @property
    def range_count(self) -> RangeCount:
        """How many ranges there shall be."""
        if self.activation_scales == CHECKPOINT:
            return FixedRanges(count=1)
        return MarginalGain() if self.ranges is None else FixedRanges(count=self.ranges)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready record."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def _number_problems(self) -> list[str]:
        problems = []
        if not self.scales or not all(math.isfinite(scale) and scale >= 1 for scale in self.scales):
            problems.append(f"scales of 1 or more are needed, found {list(self.scales)}")
        for name, value, least in (("crop", self.crop, 16), ("pictures", self.pictures, 1), ("ranges", self.ranges, 1)):
            if value is not None and value < least:
                problems.append(f"{name} must be at least {least}, found {value}")
        if not 0 <= self.seed < 1 << 64:
            problems.append(f"seed must be from 0 to 2^64 - 1, found {self.seed}")
        if self.activation_scales == CHECKPOINT and self.ranges not in (None, 1):
            problems.append(
                f"the scales of a checkpoint hold for all timesteps: {self.ranges} ranges cannot be honoured"
            )
        if not (math.isfinite(self.max_psnr_drop) and self.max_psnr_drop >= 0):
            problems.append(f"max_psnr_drop must be 0 or more, found {self.max_psnr_drop}")
        if not 0 <= self.float_share <= 0.5:
            problems.append(f"float_share must be from 0 to 0.5, found {self.float_share}")
        if self.min_fidelity is not None and not math.isfinite(self.min_fidelity):
            problems.append(f"min_fidelity must be a number of dB, found {self.min_fidelity}")
        return problems

    def _name_problems(self) -> list[str]:
        problems = []
        choices_of_name = (
            ("clipping", [self.clipping], list(CLIPPINGS)),
            ("rounding", [self.rounding], ["second-order", "nearest"]),
            ("origin of scales", [self.activation_scales], [CALIBRATED, CHECKPOINT]),
            ("target", self.targets, list(TARGET_NAMES)),
        )
        for what, names, choices in choices_of_name:
            for name in names:
                if name not in choices:
                    nearest = nearest_name(name, choices)
                    problems.append(f"the {what} {name!r} is unknown (did you mean {nearest!r}?)")
        if not self.targets:
            problems.append(f"at least one target is needed, of {', '.join(TARGET_NAMES)}")
        return problems


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where things come from and go to, and what the work may take."""

    calibration: Path | None = None
    """A folder of pictures; None: the packaged set."""
    cache: Path | None = None
    """Where partial results are kept; None: the user's cache directory."""
    report: Path | None = None
    """None: ./<stem>-report."""
    max_memory: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise PlanError(f"Quantizing cannot run on {self.threads} threads; give 1 or more, or leave it out.")
