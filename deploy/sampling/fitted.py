"""Equations that were fitted to a bundle: when they are taken, and when they no longer fit what is asked.

Their rows stand in the bundle, found by `idm-deploy schedule --fit`. They were found for one number of steps, one
start, one data consistency; with others they would be worse than any equation by rule.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from msgspec.structs import replace as changed

from deploy.bundle import Manifest
from deploy.bundle.fitted import PREFIX, FittedEquation
from deploy.bundle.quantization import Quantization
from deploy.bundle.records import Preset
from deploy.errors import PlanError

FALLBACK = "ddim"
"""In place of a preset's fitted equation where the caller changes what it was fitted for; rows are drawn towards it."""

NEARLY = 1.01
"""Sides are rounded: 25 pixels to 101 are no more than 4 times."""


def is_fitted(equation: object) -> bool:
    """Whether a name is that of a fitted equation, in this bundle or another."""
    return isinstance(equation, str) and equation.startswith(PREFIX)


def fitted_name(steps: int) -> str:
    """As the equation of so many steps is named."""
    return f"{PREFIX}{steps}"


def fitted_equation(manifest: Manifest, name: str) -> FittedEquation:
    """The bundle's own of that name."""
    known = manifest.fitted or {}
    if name not in known:
        count = name.removeprefix(PREFIX)
        steps = f" --steps {count}" if count.isdecimal() else ""
        raise PlanError(
            f"This bundle has no equation {name!r}; it has {', '.join(sorted(known)) or 'no fitted one'}. Run "
            f"`idm-deploy schedule --fit{steps}`, or choose another equation."
        )
    equation = known[name]
    if equation.fitted_to.family != manifest.family:
        raise PlanError(
            f"The equation {name!r} was fitted to a model of the family {equation.fitted_to.family}, this bundle's is "
            f"{manifest.family}. Run `idm-deploy schedule --fit`, or choose another equation."
        )
    return equation


def with_fitted(
    manifest: Manifest, way: Preset, said: Mapping[str, Any], magnification: float
) -> tuple[Preset, FittedEquation | None]:
    """A way to sample with all that belongs to the fitted equation it names, and that equation; None if it names none.

    said: by the caller, which the way has already. Where that does not go with a fitted equation it is refused; if
    only the preset named the equation, FALLBACK takes its place, also where the network is to enlarge more than when
    it was fitted.
    """
    name = way.equation
    if not is_fitted(name):
        return way, None
    equation = fitted_equation(manifest, name)
    clashes = [*_clashes(equation, said)]
    if clashes and "equation" in said:
        raise PlanError(
            f"The equation {name!r} was fitted with {describe(equation)}; found {', '.join(clashes)}. Leave that out, "
            "choose another equation, or run `idm-deploy schedule --fit` with what you want."
        )
    if clashes or ("equation" not in said and magnification > equation.fitted_to.largest_scale * NEARLY):
        return changed(way, equation=FALLBACK), None
    levels = tuple(step.noise_level for step in equation.steps)
    start = levels[0] if equation.from_guess else None
    way = changed(way, steps=len(levels), placement=levels, start=start, consistency=equation.consistency, eta=None)
    return way, equation


def describe(equation: FittedEquation) -> str:
    """What it was fitted with, e.g. "3 steps, start 0.5, consistency 1"."""
    start = f"start {equation.steps[0].noise_level:.4g}" if equation.from_guess else "pure noise"
    count = len(equation.steps)
    return f"{count} step{'' if count == 1 else 's'}, {start}, consistency {equation.consistency:g}"


def text_from_fitted(equation: FittedEquation) -> str:
    """What it was fitted with, where and to what, in one line."""
    levels = ", ".join(f"{step.noise_level:.4g}" for step in equation.steps)
    fitted = equation.fitted_to
    look = "" if fitted.look is None else f"; SSIMULACRA2 {fitted.look:.1f} there"
    scales = ", ".join(f"{scale:g}" for scale in fitted.scales)
    return (
        f"{describe(equation)}, at noise levels {levels}, on {fitted.pictures} pictures at {scales} times, "
        f"{fitted.engine} {fitted.precision}{look}"
    )


def command_to_fit(equation: FittedEquation) -> str:
    """That fits as many steps again."""
    return f"`idm-deploy schedule --fit --steps {len(equation.steps)}`"


def is_stale(equation: FittedEquation, quantization: Quantization | None) -> bool:
    """Whether the rows were fitted to int8 graphs that a bundle does not have."""
    fitted = equation.fitted_to
    if fitted.int8_target is None:
        return False
    targets = {} if quantization is None else quantization.targets
    return fitted.int8_target not in targets or targets[fitted.int8_target].digest != fitted.int8_sha256


def _clashes(equation: FittedEquation, said: Mapping[str, Any]) -> list[str]:
    """What the caller said that does not go with the equation."""
    start = equation.steps[0].noise_level if equation.from_guess else 0.0
    fits: dict[str, Any] = {"steps": len(equation.steps), "start": start, "consistency": equation.consistency}
    clashes = [
        f"{key} {said[key]:g}"
        for key, value in fits.items()
        if key in said and not (isinstance(said[key], int | float) and math.isclose(said[key], value, abs_tol=1e-9))
    ]
    if "placement" in said:
        clashes.append("a placement")
    if said.get("eta"):
        clashes.append(f"eta {said['eta']:g}")
    return clashes


def check_scale(equation: FittedEquation, magnification: float) -> None:
    """PlanError where the network is to enlarge more than when the rows were fitted."""
    largest = equation.fitted_to.largest_scale
    if magnification > largest * NEARLY:
        raise PlanError(
            f"The equation {fitted_name(len(equation.steps))!r} was fitted up to {largest:g} times, the network is to "
            f"enlarge {magnification:.4g} times at once. Choose --stages {largest:g} or --equation {FALLBACK}, or run "
            f"`idm-deploy schedule --fit --scale {magnification:.4g}`."
        )


def check_int8(equation: FittedEquation, target: str, digest: str) -> None:
    """PlanError where the rows were fitted to other int8 graphs of the target that is to run."""
    fitted = equation.fitted_to
    if fitted.int8_target == target and fitted.int8_sha256 != digest:
        steps = len(equation.steps)
        raise PlanError(
            f"The equation {fitted_name(steps)!r} was fitted to int8 graphs that this bundle no longer has. Run "
            f"{command_to_fit(equation)}, choose another precision or another equation."
        )


def without_fits_to_int8(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """The manifest without equations that were fitted to int8 graphs, whose presets take FALLBACK, and their names."""
    known = manifest.fitted or {}
    gone = sorted(name for name, equation in known.items() if equation.fitted_to.int8_target is not None)
    kept = {name: equation for name, equation in known.items() if name not in gone}
    presets = {
        name: changed(preset.without_measured(), equation=FALLBACK) if preset.equation in gone else preset
        for name, preset in manifest.presets.items()
    }
    return replace(manifest, fitted=kept or None, presets=presets), gone
