"""How far a bundle's graphs are from the network they were made from, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploy.bundle import Bundle
from deploy.checkpoint import Checkpoint
from deploy.errors import BundleError
from deploy.export.export import Progress, parts_of, silent
from deploy.networks.published import PUBLISHED
from deploy.rewrite.parts import Part
from deploy.rewrite.torch_ops import PartRunner
from deploy.runtime.graphs import Array, EngineChoice, GraphSet
from deploy.trials import TRIALS, Size, chain

SIZES: tuple[tuple[Size, int], ...] = (((32, 32), 1), ((77, 77), 1), ((128, 128), 1), ((96, 160), 1), ((32, 32), 3))
"""Output sizes (height, width) and batches: square, odd, the training size, not square, several pictures."""

AS_PUBLISHED = "published network"
REWRITTEN = "rewritten in PyTorch"


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One output of one graph against a reference, both in float32; no SQNR (None) where they are equal."""

    graph: str
    output: str
    reference: str
    size: Size
    batch: int
    max_error: float
    mean_error: float
    sqnr_db: float | None


def parity_report(
    bundle: Bundle,
    checkpoint: Checkpoint,
    choice: EngineChoice | None = None,
    sizes: Sequence[tuple[Size, int]] = SIZES,
    progress: Progress = silent,
) -> list[Parity]:
    """Every graph against the same graph in PyTorch on the same inputs, and the end against the published network."""
    if bundle.manifest.source["sha256"] != checkpoint.sha256:
        raise BundleError(
            f"{bundle.path} was exported from another file than {checkpoint.path} (their SHA-256 differ); name the "
            f"checkpoint it came from, {bundle.manifest.source['file']}."
        )
    parts = parts_of(checkpoint, frozenset(bundle.manifest.rewrites))
    with GraphSet(bundle, choice or EngineChoice()) as graphs:
        rows = []
        for number, (size, batch) in enumerate(sizes):
            progress(f"{size[1]}x{size[0]}, batch {batch}", number / len(sizes))
            rows += _case(graphs, parts, checkpoint, size, batch)
        return rows


def _case(graphs: GraphSet, parts: list[Part], checkpoint: Checkpoint, size: Size, batch: int) -> list[Parity]:
    """Every output at one size, in the order of the graphs."""
    trial = TRIALS[checkpoint.family](checkpoint.config, size, batch)
    published = PUBLISHED[checkpoint.family](checkpoint.network, trial).answers()
    feeds = chain(trial, [part.name for part in parts], graphs.run)
    rows = []
    for part in parts:
        runner = PartRunner(part)
        rewritten = {name: value.numpy() for name, value in runner.run(runner.tensors(feeds)).items()}
        for reference, answers in ((REWRITTEN, rewritten), (AS_PUBLISHED, published)):
            rows += [
                compared(part.name, spec.name, reference, answers[spec.name], feeds[spec.name], size, batch)
                for spec in part.outputs
                if spec.name in answers
            ]
    return rows


def compared(graph: str, output: str, reference: str, expected: Array, found: Array, size: Size, batch: int) -> Parity:
    """The differences of `found` from `expected`."""
    difference = found.astype(np.float64) - expected
    power, error = float(np.mean(np.square(expected, dtype=np.float64))), float(np.mean(difference**2))
    return Parity(
        graph=graph,
        output=output,
        reference=reference,
        size=size,
        batch=batch,
        max_error=float(np.abs(difference).max()),
        mean_error=float(np.abs(difference).mean()),
        sqnr_db=10 * float(np.log10(power / error)) if error else None,
    )
