"""The ways to sample that are compared: every combination of what was asked for, or a list, under names that tell
them apart and say no more than that."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path
from typing import Any

from deploy.bundle import Bundle
from deploy.measure.evaluation.contenders import Setting
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A bundle on an engine in one precision, and how to sample with it."""

    bundle: Path
    engine: str = AUTO
    precision: str = AUTO
    choices: Choices = field(default_factory=Choices)


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What was asked for, each part as often as liked; nothing: what the preset says."""

    bundles: Sequence[Path]
    engines: Sequence[str] = (AUTO,)
    precisions: Sequence[str] = (AUTO,)
    presets: Sequence[str] = ()
    equations: Sequence[str] = ()
    steps: Sequence[int] = ()
    starts: Sequence[float] = ()
    consistencies: Sequence[float] = ()
    etas: Sequence[float] = ()
    placements: Sequence[str | tuple[float, ...]] = ()
    stages: Sequence[str | tuple[float, ...]] = ()
    published: bool = False

    def ways(self) -> list[Way]:
        """Every combination, the last part changing fastest."""
        parts: dict[str, Sequence[Any]] = {
            "preset": self.presets,
            "equation": self.equations,
            "steps": self.steps,
            "start": self.starts,
            "consistency": self.consistencies,
            "eta": self.etas,
            "placement": self.placements,
            "stages": self.stages,
        }
        combinations = product(*(values or (None,) for values in parts.values()))
        choices = [
            Choices(**dict(zip(parts, values, strict=True)), published=self.published) for values in combinations
        ]
        return [
            Way(bundle=bundle, engine=engine, precision=precision, choices=choice)
            for bundle, engine, precision, choice in product(self.bundles, self.engines, self.precisions, choices)
        ]


def opened_settings(
    stack: ExitStack,
    ways: Sequence[Way],
    *,
    threads: int | None,
    seed: int,
    notice: Callable[[str], None],
    device: int | None = None,
) -> list[Setting]:
    """The ways ready to run, their engines to be closed with `stack`. What one of them cannot do is refused now."""
    bundles = {path: Bundle.open(path) for path in dict.fromkeys(way.bundle for way in ways)}
    called = short_names(list(bundles))
    upscalers: dict[tuple[Path, str, str], Upscaler] = {}
    lines_told: set[str] = set()

    def tell_once(line: str) -> None:
        if line not in lines_told:
            lines_told.add(line)
            notice(line)

    described = []
    for way in ways:
        place = way.bundle, way.engine, way.precision
        if place not in upscalers:
            upscaler = Upscaler(bundles[way.bundle], way.engine, way.precision, threads, device=device)
            upscalers[place] = stack.enter_context(upscaler)
        described.append(description_of(way, called[way.bundle], upscalers[place]))
    names = names_from_descriptions(described)
    settings = []
    for index, (way, name) in enumerate(zip(ways, names, strict=True)):
        counterpart = counterpart_of(index, described)
        setting = Setting(
            name=name,
            upscaler=upscalers[way.bundle, way.engine, way.precision],
            choices=way.choices,
            seed=seed,
            counterpart=None if counterpart is None else names[counterpart],
            series=_differing(described, index, [key for key in described[index].values if key not in ON_ONE_LINE]),
            label=_differing(described, index, ON_ONE_LINE),
            notice=tell_once,
        )
        settings.append(setting)
    return settings


PLACES = ("bundle", "engine", "precision")
ON_ONE_LINE = ("preset", "steps")
"""What may change along a line of a plot."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A way in words: every part as it came out, and which of them were said rather than left to the preset."""

    values: Mapping[str, str]
    said: frozenset[str]


def short_names(bundles: Sequence[Path]) -> dict[Path, str]:
    """What each bundle is called: its folder's own name, or the path where two folders have the same."""
    names = [path.name for path in bundles]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in bundles}


def description_of(way: Way, bundle: str, upscaler: Upscaler) -> Description:
    """The way with a bundle of that name, and with what was left open as it came out; checked."""
    sampling = upscaler.sampling(way.choices)
    plan = sampling.plan
    start = plan.start if isinstance(plan.placement, str) else plan.placement[0]
    values = {
        "bundle": bundle,
        "engine": upscaler.choice.backend,
        "precision": upscaler.choice.precision,
        "preset": sampling.preset or "published",
        "equation": plan.equation,
        "steps": f"{plan.steps} step{'s' if plan.steps != 1 else ''}",
        "start": f"start {start:g}" if sampling.from_guess and start is not None else "from noise",
        "consistency": f"consistency {sampling.consistency:g}",
        "eta": f"eta {plan.eta or 0:g}",
        "placement": plan.placement if isinstance(plan.placement, str) else ",".join(f"{x:g}" for x in plan.placement),
        "stages": f"stages {sampling.stages}",
        "blend": f"blend {sampling.blend:g}",
        "draws": f"mean of {sampling.draws} draw{'s' if sampling.draws != 1 else ''}",
    }
    left_open = {key for key in values if key not in (*PLACES, "preset") and getattr(way.choices, key) is None}
    return Description(values=values, said=frozenset(values.keys() - left_open))


def names_from_descriptions(described: Sequence[Description]) -> list[str]:
    """Names of what differs; the preset's where nothing does, numbered if that was taken."""
    names: list[str] = []
    for index, description in enumerate(described):
        name = _differing(described, index, description.values) or description.values["preset"]
        numbered = (f"{name} ({number})" for number in count(2))
        names.append(name if name not in names else next(free for free in numbered if free not in names))
    return names


def _differing(described: Sequence[Description], index: int, keys: Iterable[str]) -> str:
    """The parts of one way that are not the same in all, if any of them was told to be so."""
    wanted = [
        key
        for key in keys
        if any(key in description.said for description in described)
        and len({description.values[key] for description in described}) > 1
    ]
    return " ".join(described[index].values[key] for key in wanted)


def counterpart_of(index: int, described: Sequence[Description]) -> int | None:
    """Which way makes the pictures that this one approximates: the same sampling in float32, or else the first of them.

    None for that one itself, and for a way whose sampling no other shares.
    """
    sampling = [
        {key: value for key, value in description.values.items() if key not in PLACES} for description in described
    ]
    same = [other for other in range(len(described)) if sampling[other] == sampling[index]]
    first = min(same, key=lambda other: (described[other].values["precision"] != "fp32", other))
    return None if first == index else first
