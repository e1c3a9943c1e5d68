"""Which presets a bundle gets: ways to sample that a judge looks at, few pictures first and more for those that lead.

`draft` is the way that looks best of those with the fewest evaluations. `balanced`, the default, has the fewest
evaluations that lose no more than the judge can tell beside the best-looking single run. `best` spends up to
MOST_EVALUATIONS, also on the mean of several draws. How a picture gets past the scales of training, all have in common.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from msgspec.structs import replace as changed

from deploy.bundle.records import Preset
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import PRESET_NAMES, Choices
from deploy.sampling.equations import EQUATIONS
from deploy.sampling.placement import PLACEMENTS
from deploy.sampling.stages import ONCE

STARTS = (0.3, 0.5, 0.7)
"""Noise levels to begin at that are tried beside the one of the default preset."""

ETAS = (0.0, 1.0)
"""Shares of fresh noise that are tried where an equation has them."""

ROUNDS = ((2, 6), (6, 2))
"""Pictures that ways are looked at on, and how many of each number of steps go on; after the last round, to all."""

MOST_EVALUATIONS = 12
"""Of a picture by the preset `best`."""

STAGED_SCALES = (6.0, 8.0, 12.0)
"""At which ways past the trained scale are looked at."""

STAGED_PICTURES = 6

LIMITS = (2.0, 3.0, 4.0, 6.0, 8.0)
"""Magnifications at which the network may stop and leave the rest to a filter, or to itself again."""


class Judge(Protocol):
    """Who says how ways to sample look: a figure each, more is better.

    Ways that lose at most `most_lost` beside the best look the same. `name` is the figure's, `where` in words what it
    was measured on.
    """

    @property
    def name(self) -> str: ...

    @property
    def where(self) -> str: ...

    @property
    def most_lost(self) -> float: ...

    def can_judge(self, scale: float) -> bool:
        """Whether there are pictures large enough for that."""

    def looks(
        self, ways: Sequence[Choices], *, scale: float | None = None, pictures: int | None = None
    ) -> Sequence[float]:
        """At that scale, else at the usual one, on at most so many pictures, else on all."""


class Chooser:
    """Chooses for one bundle. consistency: of all ways; starts: noise levels to begin at, 0 for pure noise."""

    def __init__(self, upscaler: Upscaler, judge: Judge, *, consistency: float, starts: Sequence[float]) -> None:
        self._upscaler = upscaler
        self._judge = judge
        self._consistency = consistency
        self._starts = tuple(dict.fromkeys(starts))

    def presets(
        self, equations: Sequence[str], steps: Sequence[int], searched: Sequence[Preset] = ()
    ) -> dict[str, Preset]:
        """draft, balanced and best. searched: ways whose placements were found, with their measured_distance."""
        ways = self._distinct([*self._by_rule(equations, sorted(steps)), *searched])
        for pictures, kept in ROUNDS:
            ways = self._leaders(self._looked_at(ways, pictures=pictures), kept)
        best = self._best_of_each_count(self._looked_at(ways))
        draft = best[min(best)]
        single = max(self._look(way) for way in best.values())
        balanced = next(best[count] for count in sorted(best) if self._is_alike(best[count], single))
        means = [
            changed(way, draws=MOST_EVALUATIONS // count)
            for count, way in best.items()
            if 2 * count <= MOST_EVALUATIONS
        ]
        most = max([*best.values(), *self._looked_at(means)], key=self._look)
        stages = self._stages(balanced)
        chosen = dict(zip(PRESET_NAMES, (draft, balanced, most), strict=True))
        return {name: _stored(way, stages, self._judge.where) for name, way in chosen.items()}

    def _by_rule(self, equations: Sequence[str], steps: Sequence[int]) -> Iterator[Preset]:
        for count in steps:
            for equation in equations:
                for placement in PLACEMENTS:
                    for start in self._starts:
                        for eta in ETAS if EQUATIONS[equation].uses_eta else (0.0,):
                            yield Preset(
                                equation=equation,
                                steps=count,
                                placement=placement,
                                start=start,
                                eta=eta,
                                consistency=self._consistency,
                            )

    def _distinct(self, ways: Iterable[Preset]) -> list[Preset]:
        """Those that differ: with one step, for example, all rules place it alike."""
        kept: dict[object, Preset] = {}
        for way in ways:
            sampling = self._upscaler.sampling(_choices(way))
            rows = self._upscaler.session.plan(sampling).rows
            kept.setdefault((rows, sampling.from_guess, sampling.consistency), way)
        return list(kept.values())

    def _looked_at(self, ways: Sequence[Preset], *, pictures: int | None = None) -> list[Preset]:
        """The ways with their looks."""
        looks = self._judge.looks([_choices(way) for way in ways], pictures=pictures)
        return [way.with_measured(self._judge.name, look) for way, look in zip(ways, looks, strict=True)]

    def _look(self, way: Preset) -> float:
        look = way.measured(self._judge.name)
        assert look is not None  # every way was looked at
        return look

    def _leaders(self, ways: Sequence[Preset], kept: int) -> list[Preset]:
        """Of each number of steps the ways that look best so far."""
        ranked = sorted(ways, key=self._look, reverse=True)
        counts = sorted({way.steps for way in ways})
        return [way for count in counts for way in [one for one in ranked if one.steps == count][:kept]]

    def _best_of_each_count(self, ways: Sequence[Preset]) -> dict[int, Preset]:
        ranked = sorted(ways, key=self._look)
        return {way.steps: way for way in ranked}  # the last one stays

    def _is_alike(self, way: Preset, best: float) -> bool:
        return self._look(way) >= best - self._judge.most_lost

    def _stages(self, way: Preset) -> tuple[float, ...]:
        """The limits of the stages that look best past the trained scale; of those that look alike, the least work."""
        manifest = self._upscaler.bundle.manifest
        trained = manifest.scale_range.trained
        scales = [scale for scale in STAGED_SCALES if self._judge.can_judge(scale)]
        if trained is None or not scales:
            return manifest.presets[manifest.default_preset].stages or ()
        limits = [limit for limit in LIMITS if trained[0] <= limit <= trained[1]]
        candidates = [*((limit,) for limit in limits), (), *((limit, limit) for limit in limits)]
        sums = [0.0] * len(candidates)
        for scale in scales:
            ways = [replace(_choices(way), stages=_at(scale, candidate)) for candidate in candidates]
            looks = self._judge.looks(ways, scale=scale, pictures=STAGED_PICTURES)
            sums = [total + look for total, look in zip(sums, looks, strict=True)]
        least = max(sums) - self._judge.most_lost * len(scales)
        return next(candidate for candidate, total in zip(candidates, sums, strict=True) if total >= least)


def _at(scale: float, limits: Sequence[float]) -> str | tuple[float, ...]:
    """What a preset's limits come to at a scale."""
    stages: list[float] = []
    left = scale
    for limit in limits:
        if left > 1:
            stages.append(min(limit, left))
            left /= stages[-1]
    return tuple(stages) or ONCE


def _choices(way: Preset) -> Choices:
    """The way in full, so that nothing of the default preset is left in it."""
    return Choices(
        equation=way.equation,
        steps=way.steps,
        placement=way.placement,
        start=way.start,
        eta=way.eta,
        consistency=way.consistency,
        stages=ONCE,
        draws=way.draws or 1,
    )


def _stored(way: Preset, stages: Sequence[float], where: str) -> Preset:
    """As a manifest has it, without what says nothing."""
    return changed(
        way,
        start=way.start or None,
        eta=way.eta or None,
        consistency=way.consistency or None,
        stages=tuple(stages) or None,
        measured_on=where,
        besides={key: value for key, value in way.besides.items() if value},
    )
