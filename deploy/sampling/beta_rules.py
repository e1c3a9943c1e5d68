"""The rules by which authors choose betas, by name: every kind of the two published systems.

A new rule is one function and one line of BETA_RULES.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

# From the cosine schedule's paper (Nichol and Dhariwal 2021, section 3.2): offset and largest beta.
_COSINE_OFFSET = 0.008
_COSINE_LARGEST_BETA = 0.999


def _linear(timesteps: int, start: float, end: float) -> Float64Array:
    return np.linspace(start, end, timesteps, dtype=np.float64)


def _square_root_linear(timesteps: int, start: float, end: float) -> Float64Array:
    return np.linspace(math.sqrt(start), math.sqrt(end), timesteps, dtype=np.float64) ** 2


def _warmup(timesteps: int, start: float, end: float, fraction: float) -> Float64Array:
    betas = np.full(timesteps, end, dtype=np.float64)
    length = int(timesteps * fraction)
    betas[:length] = np.linspace(start, end, length, dtype=np.float64)
    return betas


def _warmup_tenth(timesteps: int, start: float, end: float) -> Float64Array:
    return _warmup(timesteps, start, end, 0.1)


def _warmup_half(timesteps: int, start: float, end: float) -> Float64Array:
    return _warmup(timesteps, start, end, 0.5)


def _constant(timesteps: int, _start: float, end: float) -> Float64Array:
    return np.full(timesteps, end, dtype=np.float64)


def _jsd(timesteps: int, _start: float, _end: float) -> Float64Array:
    """1/T, 1/(T-1), ..., 1/2, 1: alpha_bar falls in a straight line (Sohl-Dickstein et al. 2015)."""
    return 1.0 / np.linspace(timesteps, 1, timesteps, dtype=np.float64)


def _cosine(timesteps: int, _start: float, _end: float) -> Float64Array:
    """Nichol and Dhariwal 2021, equation 17, with the largest beta limited."""
    time = np.arange(timesteps + 1, dtype=np.float64) / timesteps + _COSINE_OFFSET
    curve = np.cos(time / (1 + _COSINE_OFFSET) * np.pi / 2) ** 2
    curve = curve / curve[0]
    betas: Float64Array = np.minimum(1 - curve[1:] / curve[:-1], _COSINE_LARGEST_BETA)
    return betas


@dataclass(frozen=True, kw_only=True)
class BetaRule:
    """A rule for betas, and which of its two parameters it looks at."""

    betas: Callable[[int, float, float], Float64Array]
    uses_start: bool = True
    uses_end: bool = True


# In this order the betas of a checkpoint are compared with the kinds.
BETA_RULES: dict[str, BetaRule] = {
    "linear": BetaRule(betas=_linear),
    "sqrtlinear": BetaRule(betas=_square_root_linear),
    "warmup10": BetaRule(betas=_warmup_tenth),
    "warmup50": BetaRule(betas=_warmup_half),
    "const": BetaRule(betas=_constant, uses_start=False),
    "jsd": BetaRule(betas=_jsd, uses_start=False, uses_end=False),
    "cosine": BetaRule(betas=_cosine, uses_start=False, uses_end=False),
}
# IDM's configuration files call "quad" what is computed as "sqrtlinear". (The latent repository's
# configuration calls it "linear", and its "sqrt_linear" is what "linear" is here: its reader has to say so.)
OTHER_NAMES = {"quad": "sqrtlinear"}

SCHEDULE_KINDS: tuple[str, ...] = (*BETA_RULES, *OTHER_NAMES)
