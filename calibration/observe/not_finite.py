"""Where in a network values stop being numbers, so that the refusal names the layer and the step."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from calibration.errors import StatisticsError
from calibration.observe.layers import layers_of, read_graph
from calibration.observe.observer import Observer
from engines.arrays import Array

CURE = "Such a network cannot be quantized: check it with `idm-deploy verify` and its pictures with `idm-deploy infer`."


def refuse_not_finite(predicted: Array, graph: Path, feeds: Mapping[str, Array], where: str) -> None:
    """A StatisticsError that names the first layer to blame if the predicted noise is not finite; else nothing."""
    if np.isfinite(predicted).all():
        return
    node = first_not_finite(graph, feeds)
    culprit = "every layer's output is" if node is None else f"the output of {node!r} is not, the first of all layers"
    raise StatisticsError(
        f"recording what the network is fed, {where}: its prediction is not finite; {culprit}. {CURE}"
    )


def first_not_finite(graph: Path, feeds: Mapping[str, Array]) -> str | None:
    """The first node in the graph's order whose output is not finite for these inputs; None if there is none."""
    nodes = {layer.output: layer.node for layer in layers_of(read_graph(graph))}
    with Observer(graph, list(nodes), example=feeds) as observer:
        not_finite = {name for name, values in observer.run(feeds) if not np.isfinite(values).all()}
    return next((node for name, node in nodes.items() if name in not_finite), None)
