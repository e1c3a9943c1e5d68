"""Which layers stay in float: those that spoil most for what they compute, and as many more as the budget needs.

Errors of single layers are independent noise that adds up, and most of it comes from few layers
(docs/measurements.md, layers that stay in float). So layers are ranked by their part of the error over their part of
the arithmetic, a small share of the arithmetic goes to the head of that list, and only what is still missing is sought
by trying.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.choose.recipe import Recipe
from calibration.passes.inputs import DenoiserInput
from deploy.errors import QuantizationError
from deploy.int8.trying.comparison import Fidelity
from engines.progress import Progress

PAYS = 3.0
"""A layer stays in float without need if its part of the error is at least so many times that of the arithmetic."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What some layers in float lead to: one point of the frontier.

    found: final pictures at the default preset. plain: without its aids, from pure noise; None where that is the same
    or was not asked for.
    """

    in_float: frozenset[str]
    found: Fidelity
    plain: Fidelity | None = None

    @property
    def worst(self) -> float:
        """dB against float of the worst picture, in plain sampling if there is one."""
        return (self.plain or self.found).worst


Try = Callable[[frozenset[str]], Trial]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much worse int8 pictures may be than float ones; None: no such demand."""

    max_psnr_drop: float
    min_fidelity: float | None

    def allows(self, trial: Trial) -> bool:
        """Whether the pictures are within the budget."""
        return not self.remedies(trial)

    def remedies(self, trial: Trial) -> list[str]:
        """What would have to be asked for to allow it; empty if it is within the budget."""
        remedies = []
        if trial.found.psnr_drop is not None and trial.found.psnr_drop > self.max_psnr_drop:
            remedies.append("raise --max-psnr-drop")
        if self.min_fidelity is not None and trial.worst < self.min_fidelity:
            remedies.append("lower --min-fidelity")
        return remedies

    def describe(self, trial: Trial) -> str:
        """The figures beside what was demanded."""
        parts = [f"{trial.found.mean:.2f} dB against float"]
        if self.min_fidelity is not None:
            parts[0] += f", {trial.worst:.2f} dB the worst picture (at least {self.min_fidelity:g} wanted)"
        if (drop := trial.found.psnr_drop) is not None:
            parts.append(f"{max(drop, 0.0):.3f} dB lost against the originals (at most {self.max_psnr_drop:g} wanted)")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The layers that stay in float, every trial made on the way, and the ranking if one was needed."""

    in_float: frozenset[str]
    trials: tuple[Trial, ...]
    sensitivity: dict[str, float]


def rank_layers(
    nodes: Sequence[str],
    predictions: Iterable[Sequence[np.ndarray]],
    inputs: Sequence[DenoiserInput],
    multiplications: Mapping[str, float],
    progress: Progress,
) -> dict[str, float]:
    """Each layer's part of the squared error of a step, 0 to 1, those with most of it per multiply-accumulate first.

    predictions: the noise for all inputs with one layer in int8, in the order of `nodes`. Each input counts alike,
    whatever the size of its error: early steps err less than late ones, and spoil the pictures as much.
    """
    errors = np.empty((len(nodes), len(inputs)))
    progress(f"finding the layers that int8 spoils most, of {len(nodes)}", 0.0)
    for number, predicted in enumerate(predictions):
        errors[number] = [
            np.mean(np.square(noise - entry.predicted, dtype=np.float64))
            for noise, entry in zip(predicted, inputs, strict=True)
        ]
        done = number + 1
        progress(f"finding the layers that int8 spoils most, {done} of {len(nodes)}", done / len(nodes))
    sums = errors.sum(axis=0)
    parts = (errors / np.where(sums > 0, sums, 1.0)).mean(axis=1)
    ranking = dict(zip(nodes, parts.tolist(), strict=True))
    return dict(sorted(ranking.items(), key=lambda item: (-item[1] / multiplications[item[0]], item[0])))


def head_of(ranking: Mapping[str, float], multiplications: Mapping[str, float], share: float) -> list[str]:
    """The layers that are worth being in float and fit into this share of the arithmetic together.

    Example: parts of the error 0.6, 0.3, 0.1 and of the arithmetic 0.02, 0.04, 0.3; of a share of 0.05 the first layer
    takes 0.02, the second no longer fits, the third would not pay (0.1 < 3 * 0.3).
    """
    total = sum(multiplications.values())
    head: list[str] = []
    left = share
    for node, part in ranking.items():
        cost = multiplications[node] / total
        if cost <= left and part >= PAYS * cost:
            head.append(node)
            left -= cost
    return head


def fewest_in_float(
    budget: Budget,
    nodes: Sequence[str],
    attempt: Try,
    rank: Callable[[], dict[str, float]],
    *,
    head: Callable[[Mapping[str, float]], list[str]] | None,
    what: str,
) -> Choice:
    """What `head` takes from the ranking, and what more of the ranking the budget needs; else a QuantizationError.

    Without `head` layers are ranked only if the budget is not met with all of them in int8. What is added is doubled
    until the budget is met, then halved between; at most half of the layers stay in float, beyond which int8 is not
    worth having.
    """
    ranking = {} if head is None else rank()
    first = [] if head is None else head(ranking)
    trials = [attempt(frozenset(first))]
    if budget.allows(trials[0]):
        return Choice(in_float=frozenset(first), trials=tuple(trials), sensitivity=ranking)
    ranking = ranking or rank()
    order = [*first, *(node for node in ranking if node not in set(first))]
    most = max(len(nodes) // 2, len(first) + 1)

    def allowed(count: int) -> bool:
        trials.append(attempt(frozenset(order[:count])))
        return budget.allows(trials[-1])

    low, high = len(first), len(first) + 1
    while not allowed(min(high, most)):
        if high >= most:
            best = max((trial.found for trial in trials), key=lambda found: found.mean)
            raise QuantizationError(
                f"{what}: the budget cannot be met. With {len(first)} layers in float: {budget.describe(trials[0])};"
                f" with {most} of {len(nodes)} in float: {budget.describe(trials[-1])}; best seen {best.mean:.2f} dB."
                f" {' and '.join(budget.remedies(trials[-1])).capitalize()}, or leave this target out with --targets."
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
