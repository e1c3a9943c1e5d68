"""How far a bundle's graphs are from the network they were made from, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deploy.bundle import Bundle
from deploy.checkpoint.folders import holds_pipeline, open_folder
from deploy.checkpoint.load import Checkpoint, load_checkpoint, refuse_foreign, weights_named
from deploy.checkpoint.state_dicts import state_from_contents
from deploy.checkpoint.weights_files import open_weights
from deploy.engine.graphs import EngineChoice, GraphSet
from deploy.errors import BundleError
from deploy.export.export import parts_of
from deploy.families.bundles import recorded_config
from deploy.families.cases import chain
from deploy.families.rewriting.ops import Part
from deploy.families.rewriting.torch_ops import PartRunner
from deploy.families.table import family_named
from deploy.images.sizes import Size
from engines.arrays import Array
from engines.progress import Progress, silent

LOWEST_SQNR_DB = 50.0
"""Float32 kernels were seen at 120 dB and more. GPUs may multiply in TF32, and even fp16 throughout leaves more than
50; below that a graph computes something else."""

AS_PUBLISHED = "published network"
REWRITTEN = "same graph in PyTorch"


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
    sizes: Sequence[tuple[Size, int]] | None = None,
    progress: Progress = silent,
) -> list[Parity]:
    """Every graph against the same graph in PyTorch on the same inputs, and the end against the published network.

    At the `sizes`, by default those of the family.
    """
    refuse_other_origin(bundle, checkpoint)
    sizes = family_named(checkpoint.family).parity_cases if sizes is None else sizes
    parts = parts_of(checkpoint, frozenset(bundle.manifest.rewrites))
    with GraphSet(bundle, choice or EngineChoice()) as graphs:
        rows = []
        for number, (size, batch) in enumerate(sizes):
            progress(f"{size}, batch {batch}", number / len(sizes))
            rows += _case(graphs, parts, checkpoint, size, batch)
        return rows


def refuse_other_results(bundle: Bundle, rows: Sequence[Parity]) -> None:
    """A BundleError if an output is further from a reference than rounding can explain."""
    for row in rows:
        if row.sqnr_db is not None and not row.sqnr_db >= LOWEST_SQNR_DB:  # so that NaN is refused too
            raise BundleError(
                f"{bundle.path} does not compute what its checkpoint does: {row.graph}.{row.output} at "
                f"{row.size} is {row.sqnr_db:.0f} dB from the {row.reference}, expected at least "
                f"{LOWEST_SQNR_DB:.0f}. Try another --engine, or export the checkpoint again with --force."
            )


def _case(graphs: GraphSet, parts: list[Part], checkpoint: Checkpoint, size: Size, batch: int) -> list[Parity]:
    """Every output at one size, in the order of the graphs."""
    family = family_named(checkpoint.family)
    trial = family.trial(checkpoint.config, size, batch)
    published = family.published(checkpoint.network, trial).answers()
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


def load_origin(bundle: Bundle, path: Path) -> Checkpoint:
    """The checkpoint that the bundle was exported from, with the configuration and weights chosen then.

    A file of another size is refused, for what it is if that is known, before its weights are read: it may be of
    another family, which the bundle's configuration does not fit.
    """
    manifest = bundle.manifest
    if holds_pipeline(path):
        if open_folder(path).contents.size != manifest.source.bytes:
            raise _another_file(bundle, path, "sizes")
    elif path.is_file() and path.stat().st_size != manifest.source.bytes:
        refuse_foreign(path, state_from_contents(open_weights(path), manifest.weights).shapes)
        raise _another_file(bundle, path, "sizes")
    config = family_named(manifest.family).as_mapping(recorded_config(manifest))
    checkpoint = load_checkpoint(path, config=config, weights=weights_named(manifest.weights))
    refuse_other_origin(bundle, checkpoint)
    return checkpoint


def refuse_other_origin(bundle: Bundle, checkpoint: Checkpoint) -> None:
    """A BundleError unless the checkpoint's file is the one that the bundle was exported from."""
    if bundle.manifest.source.sha256 != checkpoint.sha256:
        raise _another_file(bundle, checkpoint.path, "SHA-256")


def _another_file(bundle: Bundle, path: Path, difference: str) -> BundleError:
    return BundleError(
        f"{bundle.path} was exported from another file than {path} (their {difference} differ); name the checkpoint "
        f"it came from, {bundle.manifest.source.file}."
    )
