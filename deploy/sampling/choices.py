"""How a picture is sampled: a preset of the bundle, with whatever the caller says instead."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from msgspec.structs import replace as changed

from deploy.bundle import Manifest
from deploy.bundle.fitted import FittedEquation
from deploy.bundle.records import Preset
from deploy.errors import PlanError, nearest_name
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.fitted import with_fitted
from deploy.sampling.plan import PlanSettings
from deploy.sampling.stages import Stages, stages_from

SEARCHED = "searched"
"""The placement that `idm-deploy schedule` found for this checkpoint, equation, number of steps and start."""

PRESET_NAMES = ("draft", "balanced", "best")
"""The presets of every bundle, from the least work to the most."""
DEFAULT_PRESET = "balanced"
"""The one that a bundle says is taken if none is named."""

SAID = ("equation", "steps", "placement", "start", "eta", "consistency", "draws", "blend")
"""What a caller may say in place of a preset's, stages apart: how these are written differs."""

PUBLISHED = Preset(equation=PlanSettings().equation, steps=PlanSettings().steps)
"""What is sampled by where nothing of a preset counts."""

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
    preset = PUBLISHED if choices.published else preset_named(manifest, name)
    said = {each: getattr(choices, each) for each in SAID if getattr(choices, each) is not None}
    stages = stages_from(choices.stages, preset.stages)
    way = changed(_what_still_fits(preset, said), **said)
    way, fitted = with_fitted(manifest, way, said, stages.most_at_once(scale))
    consistency = _checked_consistency(way.consistency or 0.0)
    draws = _checked_draws(1 if way.draws is None else way.draws)
    blend = _checked_blend(1.0 if way.blend is None else way.blend)
    start = way.start or None  # 0 is pure noise, to say so against a preset
    placement = "uniform" if way.placement is None else way.placement
    steps = way.steps
    # The lists in presets are what `schedule` found.
    searched = placement == SEARCHED or ("placement" not in said and not isinstance(placement, str))
    if placement == SEARCHED:
        placement = searched_placement(manifest, way.equation, steps, start)
    if not isinstance(placement, str):
        placement = _listed_placement(placement, start)
        steps = steps if "steps" in said else len(placement)
    plan = PlanSettings(
        equation=way.equation,
        steps=steps,
        placement=placement,
        start=start if isinstance(placement, str) else None,
        eta=0.0 if way.eta is None else way.eta,
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


def preset_named(manifest: Manifest, name: str) -> Preset:
    """The preset of the bundle; a PlanError names those there are."""
    if name not in manifest.presets:
        nearest = nearest_name(name, manifest.presets)
        raise PlanError(
            f"The preset {name!r} is unknown, the nearest is {nearest!r}; this bundle has "
            f"{', '.join(sorted(manifest.presets, key=_rank))}."
        )
    return manifest.presets[name]


def _rank(name: str) -> tuple[int, str]:
    """The usual presets first, from the least work to the most; a bundle lists them by their letters."""
    return (PRESET_NAMES.index(name) if name in PRESET_NAMES else len(PRESET_NAMES)), name


def placement_key(equation: str, steps: int, start: float | None) -> str:
    """The name under which a searched placement is stored in a bundle, e.g. "ddim/8/0.5"."""
    return f"{equation}/{steps}/{'noise' if start is None else f'{start:g}'}"


def searched_placement(manifest: Manifest, equation: str, steps: int, start: float | None) -> tuple[float, ...]:
    """The noise levels that the search found for these settings."""
    key = placement_key(equation, steps, start)
    if key not in manifest.placements:
        names = ", ".join(sorted(manifest.placements)) or "none"
        raise PlanError(
            f"This bundle has no searched placement {key} (equation/steps/start); it has {names}. Run "
            f"`idm-deploy schedule --equation {equation} --steps {steps}`, or choose another placement."
        )
    return manifest.placements[key].noise_levels


def _what_still_fits(preset: Preset, said: Mapping[str, Any]) -> Preset:
    """A preset's list of noise levels goes with the steps or start it was made for, its eta with its equation."""
    if said.get("steps", preset.steps) != preset.steps or said.get("start", preset.start) != preset.start:
        preset = preset if isinstance(preset.placement, str) else changed(preset, placement=None)
    if not isinstance(said.get("placement", ""), str):
        preset = changed(preset, start=None)
    equation = EQUATIONS.get(str(said.get("equation", preset.equation)))
    return preset if equation is None or equation.uses_eta else changed(preset, eta=None)


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
