"""From what was gathered to what the int8 graphs shall hold: timestep ranges, scales and output windows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.choose.clipping import Method
from calibration.choose.common_window import quantizers_of_ranges
from calibration.choose.density import Density, density_of
from calibration.choose.partition import (
    Partition,
    RangeCount,
    best_partitions,
    choose_partition,
    range_costs,
    relative_weights,
    total_costs,
)
from calibration.choose.quantizer import Form, Quantizer
from calibration.choose.ranges import TimestepRanges, ranges_from_steps
from calibration.choose.recipe import LayerRecipe, Recipe, output_window
from calibration.lanes import lanes_for
from calibration.observe.layers import CONV, bias_of, read_graph
from calibration.passes.gathering import Findings, Gathered
from engines.arrays import Float64
from engines.progress import Progress

OUTPUT_HEADROOM = 1.0
"""Output windows hold what was seen. With 320 recorded evaluations of 16 pictures, wider ones (1.2, 1.5) lost 0.5 and
1.8 dB of fidelity on other pictures, narrower ones (0.8) won 0.8 on average and lost 1.9 on the worst picture."""

Corrections = Mapping[str, NDArray[np.float32]]
"""Per node, what is added to its output in each range, (ranges, outputs)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """The ranges of one form of codes, and the quantizers of every input tensor in each of them.

    partitions: the best for every number of ranges, for the curve in the report; `partition` is the chosen one.
    """

    form: Form
    levels: tuple[float, ...]
    partitions: tuple[Partition, ...]
    partition: Partition
    ranges: TimestepRanges
    quantizers: dict[str, tuple[Quantizer, ...]]

    def levels_of(self, index: int) -> range:
        """Indices of the recorded levels that lie in a range."""
        return range(self.partition.boundaries[index], self.partition.boundaries[index + 1])


def densities_of_inputs(findings: Findings) -> dict[str, list[Density]]:
    """Per input tensor, the density at each level."""
    return {
        name: [density_of(step) for step in findings.inputs.of_tensor(name)] for name in sorted(findings.inputs.names)
    }


def scales_for(
    form: Form,
    densities: Mapping[str, Sequence[Density]],
    levels: Sequence[float],
    method: Method,
    count: RangeCount,
    threads: int | None,
    progress: Progress,
) -> Scales:
    """Ranges by exact partition over the recorded levels, and the best quantizers in them."""
    lanes = lanes_for(threads)
    weights = {name: relative_weights(steps) for name, steps in densities.items()}

    def costs_of(name: str) -> tuple[Float64, Quantizer | None]:
        return range_costs(densities[name], form, method, weights[name])

    tables, whole = [], {}
    for number, (name, found) in enumerate(zip(densities, lanes.each(costs_of, densities), strict=True)):
        costs, whole[name] = found
        tables.append(costs)
        progress("choosing int8 scales, and for which noise levels", 0.7 * (number + 1) / len(densities))
    partitions = best_partitions(total_costs(tables))
    partition = choose_partition(partitions, count)
    bounds = list(zip(partition.boundaries[:-1], partition.boundaries[1:], strict=True))

    def quantizers_of(name: str) -> tuple[Quantizer, ...]:
        if len(bounds) == 1 and (shared := whole[name]):
            return (shared,)
        steps = [densities[name][first:last] for first, last in bounds]
        return quantizers_of_ranges(steps, [weights[name][first:last].tolist() for first, last in bounds], form, method)

    quantizers = {}
    for number, (name, chosen) in enumerate(zip(densities, lanes.each(quantizers_of, densities), strict=True)):
        quantizers[name] = chosen
        progress("choosing int8 scales", 0.7 + 0.3 * (number + 1) / len(densities))
    return Scales(
        form=form,
        levels=tuple(levels),
        partitions=partitions,
        partition=partition,
        ranges=ranges_from_steps(levels, partition.boundaries),
        quantizers=quantizers,
    )


def biases_of(graph: Path, findings: Findings) -> dict[str, NDArray[np.float32]]:
    """The bias of every layer."""
    model = read_graph(graph)
    return {node: bias_of(model, graph.parent, gathered.layer) for node, gathered in findings.layers.items()}


def recipe_of(
    findings: Findings,
    scales: Scales,
    biases: Mapping[str, NDArray[np.float32]],
    *,
    in_float: frozenset[str] = frozenset(),
    corrections: Corrections | None = None,
) -> Recipe:
    """The recipe of all layers but those that stay in float."""
    layers = [
        _layer(
            gathered,
            scales,
            biases[node],
            None if corrections is None else corrections.get(node),
            findings.factors.get(gathered.layer.input),
        )
        for node, gathered in findings.layers.items()
        if node not in in_float
    ]
    return Recipe(ranges=len(scales.ranges), layers=tuple(layers))


def _layer(
    found: Gathered,
    scales: Scales,
    bias: NDArray[np.float32],
    corrections: NDArray[np.float32] | None,
    factors: NDArray[np.float32] | None,
) -> LayerRecipe:
    inputs = scales.quantizers[found.layer.input]
    window: Any = None
    if found.layer.kind == CONV:
        rows = [slice(levels.start, levels.stop) for levels in map(scales.levels_of, range(len(scales.ranges)))]
        window = output_window(
            np.stack([found.low[row].min(axis=0) for row in rows]),
            np.stack([found.high[row].max(axis=0) for row in rows]),
            bias=bias,
            weight_scales=found.rounded.scales,
            inputs=inputs,
            headroom=OUTPUT_HEADROOM,
        )
    return LayerRecipe(
        node=found.layer.node,
        codes=found.rounded.codes,
        weight_scales=found.rounded.scales,
        inputs=inputs,
        factors=factors,
        corrections=corrections,
        output=window,
    )
