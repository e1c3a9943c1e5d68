"""Measuring figures again: each command once, and the verdict on every ratio that it shows."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.regression.figures import Figure, FigureError, Measured

Report = Mapping[str, Any]
Measure = Callable[[Sequence[str]], Report]
"""Runs `idm-deploy` with these arguments and --json."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a figure: measured now on a processor of this kind, or the reason why not."""

    figure: Figure
    kind: str | None = None
    measured: Measured | None = None
    reason: str = ""

    @property
    def worse(self) -> bool:
        """Whether the ratio has fallen below what is allowed, or could not be had although it was asked for."""
        if self.measured is None:
            return bool(self.reason)
        return self.least is not None and self.measured.ratio < self.least

    @property
    def least(self) -> float | None:
        """What is asked of the ratio on this kind of processor."""
        return self.figure.least(self.kind)


def measured_again(
    figures: Sequence[Figure], bundles: Mapping[str, Path], measure: Measure, date: str, kind: str | None
) -> list[Verdict]:
    """One verdict per figure; figures of one command and bundle share a run."""
    reports: dict[tuple[str, str], Report | str] = {}
    verdicts = []
    for figure in figures:
        if figure.model not in bundles:
            verdicts.append(Verdict(figure=figure, kind=kind))
            continue
        key = (figure.command, figure.model)
        if key not in reports:
            try:
                reports[key] = measure(arguments_of(figure, bundles[figure.model]))
            except FigureError as error:
                reports[key] = str(error)
        verdicts.append(replace(_verdict(figure, reports[key], date), kind=kind))
    return verdicts


def arguments_of(figure: Figure, bundle: Path) -> list[str]:
    """What `idm-deploy` is told."""
    return [str(bundle) if word == "{model}" else word for word in shlex.split(figure.command)]


def run_bench(arguments: Sequence[str]) -> Report:
    """The report of one run, in a process of its own; rows may have failed in it."""
    command = [sys.executable, "-c", "from deploy.cli.main import main; main()", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        report: Report = json.loads(done.stdout)
    except ValueError:
        raise FigureError(
            f"`idm-deploy {shlex.join(arguments)}` ended with {done.returncode} and no report; it says why above."
        ) from None
    return report


def with_measured(figures: Sequence[Figure], verdicts: Sequence[Verdict]) -> list[Figure]:
    """The figures with what was found now in the place of what was recorded on such processors."""
    found = {
        verdict.figure.name: {verdict.kind: verdict.measured}
        for verdict in verdicts
        if verdict.measured is not None and verdict.kind is not None
    }
    return [replace(figure, measured={**figure.measured, **found.get(figure.name, {})}) for figure in figures]


def _verdict(figure: Figure, report: Report | str, date: str) -> Verdict:
    if isinstance(report, str):
        return Verdict(figure=figure, reason=report)
    rows = report["pictures"]["rows"] if figure.table == "pictures" else report["timings"].get(figure.table, [])
    medians: dict[str, float] = {}
    for name in (figure.row, figure.over):
        row = next((row for row in rows if row["name"] == name), None)
        if row is None or row.get("failure"):
            told = row["failure"] if row else f"there is no such row; there are {', '.join(r['name'] for r in rows)}"
            return Verdict(figure=figure, reason=f"{name}: {told}")
        medians[name] = row["median_ms"]
    measured = Measured(
        row_ms=round(medians[figure.row], 2),
        over_ms=round(medians[figure.over], 2),
        hardware=f"{report['cpu']}, {report['threads']} threads",
        date=date,
        versions=dict(report["versions"]),
    )
    return Verdict(figure=figure, measured=measured)
