"""Candidates tried on calibration pictures: final pictures for the budget, single layers for the ranking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.choose.recipe import Recipe
from calibration.lanes import Lanes, lanes_for
from calibration.passes.gathering import Findings
from calibration.passes.inputs import Inputs
from calibration.passes.recipes import Corrections, Scales, recipe_of
from calibration.targets.table import target_named
from deploy.engine.graph_files import graph_file
from deploy.images.pictures import Pixels
from deploy.int8.installed import backend_of_target
from deploy.int8.recording.pictures import CalibrationPicture
from deploy.int8.recording.trajectories import CalibrationPlans
from deploy.int8.settings import QuantizeSettings
from deploy.int8.stages import RANKING, TrialPace
from deploy.int8.storing.storing import graphs_of_target
from deploy.int8.trying.budget import Budget, Choice, Trial, fewest_in_float, head_of, rank_layers
from deploy.int8.trying.comparison import PLAIN, compare, generated_by, int8_upscaler, lanes_on, made_by
from deploy.int8.trying.drafts import Draft
from deploy.int8.trying.single_layers import SingleLayers
from deploy.picture.upscaler import Upscaler
from deploy.sampling.choices import Choices
from engines.progress import Progress

VERIFIED = 6
"""Calibration pictures on which a candidate's final pictures are compared."""

GENERATED = 3
"""Pictures that are generated for the same purpose."""

RANKED = 2
"""Steps on which single layers are judged: the one of the lowest noise and that of the highest. Two of each plan, which
took a quarter longer, led to the same layers on the packaged IDM."""


@dataclass
class Trials:
    """Chooses what stays in float for each target. The upscaler has as many threads as one of `lanes_for(threads)`."""

    draft: Draft
    upscaler: Upscaler
    plans: CalibrationPlans
    settings: QuantizeSettings
    pictures: Sequence[CalibrationPicture]
    findings: Findings
    biases: Mapping[str, NDArray[np.float32]]
    inputs: Inputs
    multiplications: Mapping[str, float]
    threads: int | None
    progress: Progress
    _in_float: dict[Choices, list[Pixels]] = field(default_factory=dict)
    _ranking: dict[str, float] = field(default_factory=dict)
    _pace: TrialPace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = TrialPace(len(self.settings.targets), ranks=self.settings.float_share > 0)

    def choose(self, target: str, scales: Scales, corrections: Corrections | None) -> Choice:
        """What stays in float for a target: what pays, and what the budget needs on calibration pictures."""
        settings = self.settings
        self._pace.begin(settings.targets.index(target))

        def attempt(in_float: frozenset[str]) -> Trial:
            doing = f"trying int8 on pictures, for {target} with {len(in_float)} layers in float"
            self.progress(doing, self._pace.next_part()(0.0))
            recipe = recipe_of(self.findings, scales, self.biases, in_float=in_float, corrections=corrections)
            return self._tried(target, recipe, scales, in_float)

        def rank() -> dict[str, float]:
            # Measured once: which layers matter is the network's doing, more than that of a target's codes.
            if not self._ranking:
                self._ranking = self._ranked(target, scales, corrections)
            return self._ranking

        def head(ranking: Mapping[str, float]) -> list[str]:
            return head_of(ranking, self.multiplications, settings.float_share)

        return fewest_in_float(
            Budget(max_psnr_drop=settings.max_psnr_drop, min_fidelity=settings.min_fidelity),
            list(self.findings.layers),
            attempt,
            rank,
            head=head if settings.float_share > 0 else None,
            what=f"quantizing {self.upscaler.bundle.path} for {target}",
        )

    def _tried(self, target: str, recipe: Recipe, scales: Scales, in_float: frozenset[str]) -> Trial:
        """Final pictures at the default preset, and plain ones if the budget speaks of them and they differ."""
        ways = [Choices()]
        if self.settings.min_fidelity is not None and len(self.plans.plans) > 1:
            ways.append(PLAIN)
        bundle = self.draft.tried([graphs_of_target(self.draft.bundle, target, recipe, scales.ranges.edges)])
        for way in ways:
            if way not in self._in_float:
                self._in_float[way] = self._final(self.upscaler, way, lanes_for(self.threads))
        lanes = lanes_on(backend_of_target(target), self.threads)
        with int8_upscaler(bundle, target, lanes.threads) as upscaler:
            pictures = [self._final(upscaler, way, lanes) for way in ways]
        originals = [example.original for example in self._verified()]
        fidelities = [
            compare(self._in_float[way], of_way, originals) for way, of_way in zip(ways, pictures, strict=True)
        ]
        return Trial(in_float=in_float, found=fidelities[0], plain=fidelities[1] if len(fidelities) > 1 else None)

    def _final(self, upscaler: Upscaler, way: Choices, lanes: Lanes) -> list[Pixels]:
        if not self.pictures:
            return generated_by(upscaler, GENERATED, way, self.settings.seed, lanes)
        return made_by(upscaler, [example.original for example in self._verified()], way, self.settings.seed, lanes)

    def _verified(self) -> list[CalibrationPicture]:
        """Spread over the set and, as scales take turns, over the scales."""
        return list(self.pictures[:: max(1, len(self.pictures) // VERIFIED)][:VERIFIED])

    def _ranked(self, target: str, scales: Scales, corrections: Corrections | None) -> dict[str, float]:
        inputs = self.inputs.few(RANKED)
        nodes = list(self.findings.layers)

        def recipe_of_layer(node: str) -> Recipe:
            others = frozenset(nodes) - {node}
            return recipe_of(self.findings, scales, self.biases, in_float=others, corrections=corrections)

        single = SingleLayers(
            graph_file(self.draft.bundle, "denoise", target_named(target).norm),
            target,
            nodes,
            inputs,
            [scales.partition.range_of_step(entry.level_index) for entry in inputs],
            recipe_of_layer,
            self.threads,
        )
        part = self._pace.next_part(RANKING)
        predictions, tell = single.predictions(), lambda doing, done: self.progress(doing, part(done))
        return rank_layers(nodes, predictions, inputs, self.multiplications, tell)
