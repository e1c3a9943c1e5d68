"""Measures the ratios of docs/speed.md again and compares: `python -m benchmarks.regression`.

Exit code 1 if one has fallen below its recorded value by more than its tolerance, below its bar, or could not be
measured although its bundle is there. Times are never compared, only ratios within one run: another machine, another
day. Ratios are compared with those of the same kind of processor, which is said first; on any other kind nothing is
asked. What was not measured is said.

    python -m benchmarks.regression                                  # the packaged model
    python -m benchmarks.regression --bundle idm_ffhq_16_128=PATH    # and a bundle that is not packaged
    python -m benchmarks.regression --only demo-step-openvino-bf16
    python -m benchmarks.regression --record                         # what is found becomes data, and the page's

`python -m benchmarks.full_size` makes the bundles of the published sizes, with random weights.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from benchmarks.regression.compare import Measure, Verdict, measured_again, run_bench, with_measured
from benchmarks.regression.figures import FIGURES, Figure, FigureError, read_figures, write_figures
from benchmarks.regression.page import PAGE, page_with
from benchmarks.regression.processors import Processor, find_processor
from deploy.packaged.places import IDM_BUNDLE

PACKAGED = {"idm-demo": IDM_BUNDLE}


def main(
    arguments: Sequence[str] | None = None, measure: Measure = run_bench, processor: Processor | None = None
) -> int:
    """The exit code; the verdicts go to stdout."""
    asked = _parser().parse_args(arguments)
    seen = processor or find_processor()
    try:
        figures = read_figures(asked.figures)
        bundles = PACKAGED | _bundles(asked.bundle, figures)
        chosen = _chosen(figures, asked.only)
        if asked.record and seen.kind is None:
            raise FigureError(
                f"Recording on {seen}. Give such processors a kind in benchmarks/regression/processors.py first."
            )
        print(seen, flush=True)
        verdicts = measured_again(chosen, bundles, measure, datetime.now(UTC).date().isoformat(), seen.kind)
        print(_told(verdicts, asked.only))
        if asked.record:
            recorded = with_measured(figures, verdicts)
            text = page_with(recorded, asked.page.read_text())
            write_figures(recorded, asked.figures)
            asked.page.write_text(text)
    except FigureError as error:
        print(f"regression: {error}", file=sys.stderr)
        return 1
    missing = any(verdict.measured is None and not verdict.reason for verdict in verdicts)
    return 1 if any(verdict.worse for verdict in verdicts) or (missing and asked.only) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="a figure; repeatable")
    parser.add_argument("--bundle", action="append", default=[], metavar="MODEL=PATH", help="where a model lies")
    parser.add_argument("--record", action="store_true", help="what is found becomes the data and the page's tables")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="another file of figures")
    parser.add_argument("--page", type=Path, default=PAGE, help="another page")
    return parser


def _bundles(given: Sequence[str], figures: Sequence[Figure]) -> dict[str, Path]:
    models = {figure.model for figure in figures}
    found = {}
    for text in given:
        model, _, path = text.partition("=")
        if model not in models or not path:
            raise FigureError(
                f"--bundle {text} is not MODEL=PATH with a model of the figures; there are {', '.join(sorted(models))}."
            )
        found[model] = Path(path)
    return found


def _chosen(figures: Sequence[Figure], only: Sequence[str]) -> list[Figure]:
    names = [figure.name for figure in figures]
    for name in only:
        if name not in names:
            nearest = get_close_matches(name, names, 1, 0.0)[0]
            raise FigureError(f"There is no figure {name!r}, the nearest is {nearest!r}; there are {', '.join(names)}.")
    return [figure for figure in figures if not only or figure.name in only]


def _told(verdicts: Sequence[Verdict], only: Sequence[str]) -> str:
    """One line per figure that was measured or should have been, and how many were not."""
    lines = []
    for verdict in verdicts:
        figure, found = verdict.figure, verdict.measured
        if found is None:
            if verdict.reason or only:
                lines.append(f"{figure.name}: not measured, {verdict.reason or f'give --bundle {figure.model}=PATH'}")
            continue
        before = figure.measured.get(verdict.kind or "")
        recorded = "" if before is None else f", recorded {before.ratio:.3g}"
        least = ", nothing is asked" if verdict.least is None else f", at least {verdict.least:.3g} is asked"
        mark = "WORSE " if verdict.worse else ""
        lines.append(f"{mark}{figure.name}: {found.ratio:.3g}{recorded}{least}")
    absent = {v.figure.model for v in verdicts if v.measured is None and not v.reason}
    if absent and not only:
        count = sum(verdict.figure.model in absent for verdict in verdicts)
        lines.append(f"not measured: {count} figures of {', '.join(sorted(absent))}, see --bundle")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
