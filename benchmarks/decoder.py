"""How long the latent decoder takes, in float and in int8: `python -m benchmarks.decoder BUNDLE`.

Both CPU engines take turns in every precision, for pictures of several sizes from one latent of the training's size.
The decoder is quantized here, in a scratch copy of the bundle, on random latents and with nearest rounding: its
pictures mean nothing, but its time does not depend on the values. What int8 does to pictures is said by
`idm-deploy quantize`. A bundle of published size: `python -m benchmarks.full_size latent_sr_ffhq_16_128 FOLDER`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from calibration.choose.clipping import Mse
from calibration.targets.table import TARGETS
from deploy.bundle import Bundle
from deploy.cli.tables import text_from_cells
from deploy.engine.graphs import INT8, EngineChoice, GraphSet
from deploy.engine.turns import Contender, Split, Timing, measure, timing_of
from deploy.errors import BundleError, DeployError
from deploy.families.contract import Float32
from deploy.families.latent.model import LARGEST_QUERY_BYTES, LatentModel
from deploy.int8.trying.comparison import runs_in_int8
from deploy.int8.trying.decoder import findings_of_decoder, graphs_of_decoder, with_decoder
from deploy.int8.trying.drafts import Draft, drafted
from engines.backends import BACKENDS
from engines.errors import EngineError

CALIBRATION_BYTES = 1 << 30


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; the tables go to stdout, progress to stderr."""
    asked = _parser().parse_args(arguments)
    try:
        report = measured(asked.bundle, asked.sizes, threads=asked.threads, rounds=asked.rounds)
    except (DeployError, EngineError) as error:
        print(f"decoder: {error}", file=sys.stderr)
        return 1
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for size, rows in report["seconds"].items():
        print(text_from_cells(f"{size}x{size} pixels, {report['threads']} threads", cells_of_rows(rows)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512], help="sides of the pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures there")
    return parser


def measured(path: Path, sizes: Sequence[int], *, threads: int, rounds: int) -> dict[str, Any]:
    """Median seconds by size, engine and precision, of `decode` and of all queries."""
    bundle = Bundle.open(path)
    if "query" not in bundle.manifest.graphs:
        raise BundleError(f"{path} has no latent decoder to time. Name a bundle of the latent family.")
    with TemporaryDirectory(prefix="decoder-") as folder, drafted(bundle, Path(folder), (0.5,)) as draft:
        seconds = {}
        with ExitStack() as stack:
            models = {name: stack.enter_context(model) for name, model in _models(draft, threads)}
            for size in sizes:
                contenders = [_contender(name, model, size) for name, model in models.items()]
                measure(contenders, rounds, perf_counter, _progress(size))
                seconds[str(size)] = [_row(timing_of(one)) for one in contenders]
    return {"bundle": path.name, "threads": threads, "rounds": rounds, "seconds": seconds}


def _models(draft: Draft, threads: int) -> Iterator[tuple[str, AbstractContextManager[LatentModel]]]:
    """Every engine and precision that runs here, the float ones of an engine before int8."""
    targets = [
        name for name, target in TARGETS.items() if target.on_cpu and BACKENDS[target.tried_on].probe().available
    ]
    with _model(draft.bundle, EngineChoice(threads=threads)) as model:
        found = findings_of_decoder(
            model.decoder,
            draft.bundle,
            [_latent(model)],
            CALIBRATION_BYTES,
            threads,
            lambda doing, _: _tell(doing),
            second_order=False,
        )
    graphs = {target: graphs_of_decoder(draft.bundle, target, found, Mse(), _tell) for target in targets}
    coded = {target: {name: one[0] for name, one in each.items()} for target, each in graphs.items()}
    bundle = with_decoder(draft, coded)
    for target in targets:
        backend = TARGETS[target].tried_on
        for precision in [*BACKENDS[backend].precisions, *([INT8] if runs_in_int8(target) else [])]:
            choice = EngineChoice(backend=backend, precision=precision, threads=threads, int8_target=target)
            yield f"{backend} {precision}", _model(bundle, choice)


@contextmanager
def _model(bundle: Bundle, choice: EngineChoice) -> Iterator[LatentModel]:
    with GraphSet(bundle, choice) as graphs:
        yield LatentModel(graphs)


def _latent(model: LatentModel) -> Float32:
    side = model.config.image_size or 32
    return np.random.default_rng(0).standard_normal((1, model.channels, side, side)).astype(np.float32)


def _contender(name: str, model: LatentModel, size: int) -> Contender:
    latent = _latent(model)
    side = latent.shape[2]

    def step() -> Split:
        subject = model.subject_of_latents(1, (side, side), (size, size))
        begin = perf_counter()
        features = model.graphs.run("decode", {"z": latent})["features"]
        between = perf_counter()
        for _ in subject.rows_of_features(features, LARGEST_QUERY_BYTES):
            pass
        return Split({"decode": between - begin, "query": perf_counter() - between})

    return Contender(name, step)


def _row(timing: Timing) -> dict[str, Any]:
    if timing.failure is not None:
        return {"name": timing.name, "failure": timing.failure}
    return {"name": timing.name, **{part: value / 1e3 for part, value in timing.part_medians_ms.items()}}


def cells_of_rows(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Heading and lines; how many times faster than the first row of the same engine each is, both parts together."""
    cells = [["", "decode", "query", "together", "times faster"]]
    first: dict[str, float] = {}
    for row in rows:
        if "failure" in row:
            cells.append([row["name"], row["failure"], "", "", ""])
            continue
        total = row["decode"] + row["query"]
        base = first.setdefault(row["name"].split()[0], total)
        cells.append([row["name"], *(f"{value:.3f} s" for value in (row["decode"], row["query"], total))])
        cells[-1].append(f"{base / total:.2f}")
    return cells


def _progress(size: int) -> Callable[[str, float], None]:
    return lambda doing, fraction: _tell(f"{size} pixels, {doing}, {fraction:.0%}")


def _tell(line: str) -> None:
    print(f"decoder: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
