"""How a picture is sampled: a preset of the bundle, with whatever the caller says instead."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deploy.bundle import Manifest
from deploy.bundle.fitted import FittedEquation
from deploy.errors import PlanError, nearest_name
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.fitted import chosen_fitted
from deploy.sampling.plan import PlanSettings
from deploy.sampling.stages import Stages, stages_from

SEARCHED = "searched"
"""The placement that `idm-deploy schedule` found for this checkpoint, equation, number of steps and start."""

PRESET_NAMES = ("draft", "balanced", "best")
"""The presets of every bundle, from the least work to the most."""
DEFAULT_PRESET = "balanced"
"""The one that a bundle says is taken if none is named."""

PRESET_KEYS = ("equation", "steps", "placement", "start", "eta", "consistency", "stages", "draws", "blend")

MOST_BLEND = 4
"""Times what widths say of a scaling factor: far outside training already."""

MOST_DRAWS = 64
"""Of one picture, whose mean is taken: beyond some, nothing changes but the time."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the caller says; None is what the preset says."""

    preset: str | None = None
    equation: str | None = None
    steps: int | None = None
    start: float | None = None
    consistency: float | None = None
    eta: float | None = None
    placement: str | Sequence[float] | None = None
    stages: str | Sequence[float] | None = None
    draws: int | None = None
    blend: float | None = None
    published: bool = False

    def before(self, others: "Choices | None") -> "Choices":
        """What is said here, and what `others` say where nothing is."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        # By identity: a start of 0.0 equals False, and is said.
        own = {name: value for name, value in values.items() if value is not None and value is not False}
        return replace(others or Choices(), **own)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A checked way to sample. `from_guess`: the state begins at the noised enlarged input, not at pure noise.

    stages: one run of the plan each. draws: runs from different noise, whose mean the picture of a stage is. blend: of
    a network that is told how much it magnifies, how much of that it is told; 1 is all.
    """

    plan: PlanSettings
    consistency: float
    from_guess: bool
    preset: str | None  # None: published
    stages: Stages = field(default_factory=Stages)
    draws: int = 1
    blend: float = 1.0
    searched: bool = False  # the plan's list of noise levels was found by search rather than given
    fitted: FittedEquation | None = None  # whose rows the plan has

    def describe(self) -> str:
        """One line for people, e.g. "balanced: ddim, 20 steps placed uniform, from pure noise"."""
        return f"{self.preset or 'published'}: {self.recipe()}"

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready record; of a fitted equation the rows, which are the plan's."""
        record = asdict(replace(self, fitted=None)) | {"plan": self.plan.as_dict()}
        del record["fitted"]
        return record

    def recipe(self) -> str:
        """The line without the preset's name, whose values the caller's choices may have replaced."""
        plan = self.plan
        listed = "placed by search" if self.searched else "placed as listed"
        if self.fitted is not None:
            listed = f"as fitted on {self.fitted.fitted_to.engine} {self.fitted.fitted_to.precision}"
        placed = listed if isinstance(plan.placement, tuple) else f"placed {plan.placement}"
        start = plan.start if isinstance(plan.placement, str) else plan.placement[0]
        origin = f"from the enlarged input noised to level {start:.4g}" if self.from_guess else "from pure noise"
        parts = [plan.equation, f"{plan.steps} steps {'as published' if plan.published else placed}", origin]
        if plan.eta:
            parts.append(f"eta {plan.eta:g}")
        if self.consistency:
            parts.append(f"data consistency {self.consistency:g}")
        if self.blend != 1:
            parts.append(f"blend {self.blend:g}")
        if self.draws > 1:
            parts.append(f"mean of {self.draws} draws")
        if not self.stages.is_once:
            parts.append(self.stages.describe())
        return ", ".join(parts)


def sampling_from(manifest: Manifest, choices: Choices, scale: float | None = None) -> Sampling:
    """The bundle's preset with the caller's choices in place of its own; everything is checked.

    scale: how many times pictures are to grow, where that is known.
    """
    name = choices.preset or manifest.default_preset
    values = {} if choices.published else preset_values(manifest, name)
    own = {key: getattr(choices, key) for key in PRESET_KEYS if getattr(choices, key) is not None}
    own.pop("stages", None)
    preset_stages = values.pop("stages", None)
    _drop_what_no_longer_fits(values, own)
    values |= own
    stages = stages_from(choices.stages, preset_stages)
    fitted = chosen_fitted(manifest, values, own, stages.most_at_once(scale))
    consistency = _checked_consistency(values.pop("consistency", None) or 0.0)
    draws = _checked_draws(values.pop("draws", 1))
    blend = _checked_blend(values.pop("blend", 1.0))
    start = values.pop("start", None) or None  # 0 is pure noise, to say so against a preset
    placement = values.get("placement", "uniform")
    # The lists in presets are what `schedule` found.
    searched = placement == SEARCHED or ("placement" not in own and not isinstance(placement, str))
    if placement == SEARCHED:
        placement = searched_placement(manifest, values, start)
    if not isinstance(placement, str):
        placement = _listed_placement(placement, start)
        values["steps"] = values.get("steps", len(placement)) if "steps" in own else len(placement)
    plan = PlanSettings(
        **{**values, "placement": placement, "start": start if isinstance(placement, str) else None},
        published=choices.published,
        fitted=() if fitted is None else fitted.steps,
    )
    return Sampling(
        plan=plan,
        consistency=consistency,
        from_guess=start is not None,
        preset=None if choices.published else name,
        stages=stages,
        draws=draws,
        blend=blend,
        searched=searched,
        fitted=fitted,
    )


def preset_values(manifest: Manifest, name: str) -> dict[str, Any]:
    """What a preset of the bundle says, by PRESET_KEYS."""
    if name not in manifest.presets:
        nearest = nearest_name(name, manifest.presets)
        raise PlanError(
            f"The preset {name!r} is unknown, the nearest is {nearest!r}; this bundle has "
            f"{', '.join(sorted(manifest.presets, key=_rank))}."
        )
    values = manifest.presets[name]
    # Keys that begin otherwise (what was measured, when) are for `inspect`.
    return {key: values[key] for key in PRESET_KEYS if values.get(key) is not None}


def _rank(name: str) -> tuple[int, str]:
    """The usual presets first, from the least work to the most; a bundle lists them by their letters."""
    return (PRESET_NAMES.index(name) if name in PRESET_NAMES else len(PRESET_NAMES)), name


def placement_key(equation: str, steps: int, start: float | None) -> str:
    """The name under which a searched placement is stored in a bundle, e.g. "ddim/8/0.5"."""
    return f"{equation}/{steps}/{'noise' if start is None else f'{start:g}'}"


def searched_placement(manifest: Manifest, values: Mapping[str, Any], start: float | None) -> tuple[float, ...]:
    """The noise levels that the search found for these settings."""
    defaults = PlanSettings()
    equation, steps = values.get("equation", defaults.equation), values.get("steps", defaults.steps)
    key = placement_key(equation, steps, start)
    if key not in manifest.placements:
        names = ", ".join(sorted(manifest.placements)) or "none"
        raise PlanError(
            f"This bundle has no searched placement {key} (equation/steps/start); it has {names}. Run "
            f"`idm-deploy schedule --equation {equation} --steps {steps}`, or choose another placement."
        )
    return tuple(float(level) for level in manifest.placements[key]["noise_levels"])


def _drop_what_no_longer_fits(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """A preset's list of noise levels goes with the steps or start it was made for, its eta with its equation."""
    changed = any(given.get(key, values.get(key)) != values.get(key) for key in ("steps", "start"))
    if changed and not isinstance(values.get("placement", ""), str):
        del values["placement"]
    if "placement" in given and not isinstance(given["placement"], str):
        values.pop("steps", None)
        values.pop("start", None)
    equation = EQUATIONS.get(str(given.get("equation", values.get("equation"))))
    if equation is not None and not equation.uses_eta:
        values.pop("eta", None)


def _listed_placement(levels: Sequence[float], start: float | None) -> tuple[float, ...]:
    listed = tuple(levels)
    if start is not None and listed and not math.isclose(listed[0], start):
        raise PlanError(
            f"The list of noise levels begins at {listed[0]!r}, but the start is {start!r}; leave out one of them "
            "or make them equal."
        )
    return listed


def _checked_draws(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_DRAWS:
        raise PlanError(f"The number of `draws` whose mean is taken must be from 1 to {MOST_DRAWS}, found {value!r}.")
    return value


def _checked_blend(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_BLEND:
        raise PlanError(
            f"The `blend` must be a factor from 0 to {MOST_BLEND}, 1 is what the widths say; found {value!r}."
        )
    return float(value)


def _checked_consistency(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PlanError(f"The data consistency must be a strength from 0 (none) to 1 (full), found {value!r}.")
    return float(value)
