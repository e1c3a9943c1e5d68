"""Candidates tried on calibration pictures: final pictures for the budget, single layers for the ranking."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.recipe import Recipe
from deploy.evaluation.originals import Pixels
from deploy.quantization.budget import Budget, Choice, fewest_in_float, rank_layers
from deploy.quantization.comparison import Fidelity, compare, generated_by, int8_upscaler, made_by
from deploy.quantization.drafts import Draft
from deploy.quantization.gathering import Findings, Inputs
from deploy.quantization.pictures import CalibrationPicture
from deploy.quantization.recipes import Corrections, Scales, recipe_of
from deploy.quantization.settings import QuantizeSettings
from deploy.quantization.storing import graphs_of_target
from deploy.quantization.trajectories import CalibrationPlans, DenoiserInput
from deploy.runtime.settings import Choices
from deploy.runtime.upscaler import Upscaler

Progress = Callable[[str, float], None]

VERIFIED = 6
"""Calibration pictures on which a candidate's final pictures are compared."""

GENERATED = 3
"""Pictures that are generated for the same purpose."""

RANKED_STEPS = 4
"""Steps on which single layers are judged."""


@dataclass
class Trials:
    """Chooses what stays in float for each target."""

    draft: Draft
    upscaler: Upscaler
    plans: CalibrationPlans
    settings: QuantizeSettings
    pictures: Sequence[CalibrationPicture]
    findings: Findings
    biases: Mapping[str, NDArray[np.float32]]
    inputs: Inputs
    threads: int | None
    progress: Progress
    _in_float: list[Pixels] = field(default_factory=list)
    _rankings: dict[int, dict[str, float]] = field(default_factory=dict)

    def choose(self, target: str, scales: Scales, corrections: Corrections | None) -> Choice:
        """The fewest layers in float that meet the budget on calibration pictures, at the default preset."""
        done = self.settings.targets.index(target) / len(self.settings.targets)
        budget = Budget(max_psnr_drop=self.settings.max_psnr_drop, min_fidelity=self.settings.min_fidelity)

        def attempt(in_float: frozenset[str]) -> Fidelity:
            self.progress(f"trying {target} with {len(in_float)} layers in float", done)
            recipe = recipe_of(self.findings, scales, self.biases, in_float=in_float, corrections=corrections)
            return self._tried(target, recipe, scales)

        def rank() -> dict[str, float]:
            # Targets with the same codes share what single layers do.
            if id(scales) not in self._rankings:
                self._rankings[id(scales)] = self._ranked(target, scales, corrections)
            return self._rankings[id(scales)]

        return fewest_in_float(budget, list(self.findings.layers), attempt, rank, what=f"quantizing for {target}")

    def _tried(self, target: str, recipe: Recipe, scales: Scales) -> Fidelity:
        bundle = self.draft.tried([graphs_of_target(self.draft.bundle, target, recipe, scales.ranges.edges)])
        if not self._in_float:
            self._in_float = self._final(self.upscaler)
        with int8_upscaler(bundle, target, self.threads) as upscaler:
            made = self._final(upscaler)
        return compare(self._in_float, made, [one.original for one in self._verified()])

    def _final(self, upscaler: Upscaler) -> list[Pixels]:
        if not self.pictures:
            return generated_by(upscaler, GENERATED, Choices(), self.settings.seed)
        return made_by(upscaler, [one.original for one in self._verified()], Choices(), self.settings.seed)

    def _verified(self) -> list[CalibrationPicture]:
        """Spread over the set and, as scales take turns, over the scales."""
        return list(self.pictures[:: max(1, len(self.pictures) // VERIFIED)][:VERIFIED])

    def _ranked(self, target: str, scales: Scales, corrections: Corrections | None) -> dict[str, float]:
        chosen = self.inputs.few(RANKED_STEPS)
        nodes = list(self.findings.layers)

        def predict(node: str, inputs: Sequence[DenoiserInput]) -> list[NDArray[np.float32]]:
            others = frozenset(nodes) - {node}
            recipe = recipe_of(self.findings, scales, self.biases, in_float=others, corrections=corrections)
            bundle = self.draft.tried([graphs_of_target(self.draft.bundle, target, recipe, scales.ranges.edges)])
            with int8_upscaler(bundle, target, self.threads) as upscaler:
                rows = upscaler.graphs.rows_in_precision(
                    [{} for _ in inputs], [self.plans.levels[one.level_index] for one in inputs]
                )
                pairs = zip(inputs, rows, strict=True)
                return [upscaler.graphs.run("denoise", {**one.feeds, **row})["noise"] for one, row in pairs]

        return rank_layers(nodes, predict, chosen, self.plans.plans[0], self.plans.levels, self.progress)
