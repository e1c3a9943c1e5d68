"""The fewest layers in float that keep the final pictures within the budget: ranked one by one, verified together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.recipe import Recipe
from deploy.errors import QuantizationError
from deploy.quantization.comparison import Fidelity
from deploy.quantization.trajectories import DenoiserInput
from deploy.sampling.plan import Plan, PlanRow

Progress = Callable[[str, float], None]
Try = Callable[[frozenset[str]], Fidelity]
"""Which layers stay in float -> what the final pictures lose."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be lost; None: no such demand."""

    max_psnr_drop: float
    min_fidelity: float | None

    def allows(self, found: Fidelity) -> bool:
        """Whether the pictures are within the budget."""
        dropped = found.psnr_drop is not None and found.psnr_drop > self.max_psnr_drop
        return not dropped and (self.min_fidelity is None or found.mean >= self.min_fidelity)

    def describe(self, found: Fidelity) -> str:
        """The figures beside what was demanded."""
        parts = [f"{found.mean:.2f} dB against float"]
        if self.min_fidelity is not None:
            parts[0] += f" (at least {self.min_fidelity:g} wanted)"
        if found.psnr_drop is not None:
            parts.append(f"{found.psnr_drop:.3f} dB lost against the originals (at most {self.max_psnr_drop:g} wanted)")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the frontier."""

    in_float: frozenset[str]
    found: Fidelity


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The layers that stay in float, every trial made on the way, and the ranking if one was needed."""

    in_float: frozenset[str]
    trials: tuple[Trial, ...]
    sensitivity: dict[str, float]


def noise_weight(row: PlanRow) -> float:
    """With what factor an error of the predicted noise enters the state after the step."""
    return abs(row.x0[0]) * row.sigma / row.noise_level


def rank_layers(
    nodes: Sequence[str],
    predict: Callable[[str, Sequence[DenoiserInput]], list[np.ndarray]],
    inputs: Sequence[DenoiserInput],
    plan: Plan,
    levels: Sequence[float],
    progress: Progress,
) -> dict[str, float]:
    """Per layer, the mean squared error that it alone, in int8, causes in one step; the most sensitive first.

    predict: the noise for all inputs with one layer in int8. Each input counts with its step's `noise_weight`.
    """
    by_level = {row.noise_level: noise_weight(row) for row in plan.rows}
    weights = [by_level[min(by_level, key=lambda at: abs(at - levels[one.level_index]))] for one in inputs]
    ranking = {}
    for number, node in enumerate(nodes):
        progress(f"sensitivity of {node}", number / len(nodes))
        made = predict(node, inputs)
        errors = [
            weight**2 * float(np.mean(np.square(noise - one.predicted, dtype=np.float64)))
            for weight, noise, one in zip(weights, made, inputs, strict=True)
        ]
        ranking[node] = float(np.mean(errors))
    return dict(sorted(ranking.items(), key=lambda item: (-item[1], item[0])))


def fewest_in_float(
    budget: Budget, nodes: Sequence[str], attempt: Try, rank: Callable[[], dict[str, float]], *, what: str
) -> Choice:
    """The shortest head of the ranking whose float execution meets the budget; a QuantizationError if none does.

    Heads are doubled until one meets it, then halved between; at most half of the layers stay in float, beyond which
    int8 is not worth having.
    """
    trials = [Trial(in_float=frozenset(), found=attempt(frozenset()))]
    if budget.allows(trials[0].found):
        return Choice(in_float=frozenset(), trials=tuple(trials), sensitivity={})
    ranking = rank()
    order, most = list(ranking), len(nodes) // 2

    def allowed(count: int) -> bool:
        head = frozenset(order[:count])
        trials.append(Trial(in_float=head, found=attempt(head)))
        return budget.allows(trials[-1].found)

    low, high = 0, 1
    while not allowed(min(high, most)):
        if high >= most:
            best = max((trial.found for trial in trials), key=lambda found: found.mean)
            raise QuantizationError(
                f"{what}: the budget cannot be met. With all layers in int8: {budget.describe(trials[0].found)}; with"
                f" {most} of {len(nodes)} in float: {budget.describe(trials[-1].found)}; best seen"
                f" {best.mean:.2f} dB. Allow more with --max-psnr-drop or --min-fidelity, or leave this target out."
            )
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if allowed(middle) else (middle, high)
    return Choice(in_float=frozenset(order[:high]), trials=tuple(trials), sensitivity=ranking)


def share_in_float(recipe: Recipe, multiplications: dict[str, float]) -> float:
    """The part of the multiply-accumulates that a recipe leaves in float; 0 to 1."""
    inside = sum(multiplications[layer.node] for layer in recipe.layers)
    return 1.0 - inside / sum(multiplications.values())
