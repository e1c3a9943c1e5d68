"""The report folder: figures, tables and plots of one quantization."""

import errno
import json
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from deploy.errors import FolderError
from deploy.images.files import write_image
from deploy.images.pictures import Pixels
from deploy.int8.pipeline import Calibrated
from deploy.int8.telling.plots import PLOTS, write_plots
from deploy.int8.telling.records import text_of_record
from deploy.int8.telling.results import Results, legend_of_table, report_from_results, table_from_results
from deploy.measure.evaluation.tables import markdown_table
from deploy.measure.metrics import fidelity
from deploy.measure.sheet import contact_sheet
from engines.errors import FileError
from engines.new_files import new_folder, write_text

VISIBLE = 24.0
"""To about how many levels (of 255) the largest typical difference is amplified."""
MOST_AMPLIFIED = 64

INSTALL = "pip install 'idm-deploy[report]'"


def refuse_unwritable(folder: Path) -> None:
    """A FolderError if the report could not be written; nothing is made yet."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        problem = errno.EACCES if place.is_dir() else errno.ENOTDIR
        raise _unwritable(folder, os.strerror(problem))


def _unwritable(folder: Path, problem: str) -> FolderError:
    return FolderError(f"writing the report to {folder}: {problem}. Choose another folder with --report.")


def write_report(calibrated: Calibrated, results: Results, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """The files written: what was chosen and found as JSON and Markdown, pictures, and plots if there is matplotlib."""
    plotted = find_spec("matplotlib") is not None
    try:
        with new_folder(folder):
            figures = json.dumps(_figures(calibrated, results), indent=1, sort_keys=True)
            files = [
                write_text(folder / "quantization.json", figures),
                write_text(folder / "calibration.json", text_of_record(calibrated.record)),
                write_text(folder / "quantization.md", _markdown(calibrated, results, plotted=plotted)),
            ]
    except (OSError, FileError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        raise _unwritable(folder, str(getattr(cause, "strerror", cause))) from error
    for target in results.in_int8:
        path = folder / picture_file(target)
        write_image(picture_sheet(results, target), path)
        files.append(path)
    if not plotted:
        say(f"the report has no plots: matplotlib is not installed. Type {INSTALL}")
        return files
    return [*files, *write_plots(calibrated, folder)]


def picture_file(target: str) -> str:
    """The name of its sheet."""
    return f"pictures-{target}.png"


def picture_sheet(results: Results, target: str) -> Pixels:
    """Float, int8 and their difference beside each other, the least alike first."""
    pairs = list(zip(results.in_float, results.in_int8[target], strict=True))
    values = [fidelity(a, b) for a, b in pairs]
    factor = amplification(pairs)
    rows = []
    for index in sorted(range(len(pairs)), key=lambda i: values[i]):
        a, b = pairs[index]
        row: list[tuple[str, Pixels]] = [("float32\n ", a), (f"int8, {target}\n{values[index]:.1f} dB", b)]
        row.append((text_of_difference(factor), difference(a, b, factor)))
        if results.originals:
            row = [(f"{results.originals[index].name}\noriginal", results.originals[index].pixels), *row]
        rows.append(row)
    return contact_sheet(rows, title=f"int8 for {target}, preset {results.preset}, the least alike first")


def amplification(pairs: Sequence[tuple[Pixels, Pixels]]) -> int:
    """The power of two that makes the differences visible; 1 where they are already."""
    largest = max(float(np.sqrt(np.mean(np.square(a.astype(np.float64) - b)))) for a, b in pairs)
    if largest * MOST_AMPLIFIED <= VISIBLE:
        return MOST_AMPLIFIED
    return int(2 ** max(np.floor(np.log2(VISIBLE / largest)), 0))


def text_of_difference(factor: int) -> str:
    """The label of the difference, of two lines like those beside it."""
    return f"difference\nx{factor}" if factor > 1 else "difference\n "


def difference(a: Pixels, b: Pixels, factor: int) -> Pixels:
    """Grey where both are equal; `factor` times their difference."""
    change = a.astype(np.int16) - b.astype(np.int16)
    return np.clip(128 + factor * change, 0, 255).astype(np.uint8)


def _figures(calibrated: Calibrated, results: Results) -> dict[str, Any]:
    movement = calibrated.movement
    return {
        **report_from_results(results),
        "movement": {
            "median_ratio": movement.median_ratio,
            "largest_ratio": None if np.isinf(movement.largest_ratio) else movement.largest_ratio,
            "tensors": {entry.name: list(entry.largest) for entry in movement.tensors},
        },
        "weights_sqnr_db": {
            node: None if np.isinf(entry.rounded.sqnr_db) else entry.rounded.sqnr_db
            for node, entry in calibrated.findings.layers.items()
        },
        "frontier": {
            target: [
                {
                    "in_float": len(trial.in_float),
                    "fidelity": _finite(trial.found.mean),
                    "worst_plain": _finite(trial.worst),
                    "psnr_drop": trial.found.psnr_drop,
                }
                for trial in choice.trials
            ]
            for target, choice in calibrated.choices.items()
        },
        "sensitivity": {target: choice.sensitivity for target, choice in calibrated.choices.items()},
    }


def _markdown(calibrated: Calibrated, results: Results, *, plotted: bool) -> str:
    in_float = [
        f"* {row.target}: {len(row.in_float)} of {row.layers} layers stay in float"
        + (f": {', '.join(row.in_float)}" if row.in_float else "")
        for row in results.rows
    ]
    edges = [text_of_ranges(target, scales.ranges.edges) for target, scales in calibrated.scales.items()]
    edges = [f"* {line}" for line in edges if line]
    head = f"# {calibrated.bundle.path.name}, preset {results.preset}"
    legend = [f"* {line}" for line in legend_of_table(results)]
    parts = [
        markdown_table(table_from_results(results)),
        legend,
        in_float,
        edges,
        _frontier(calibrated),
        files_of_report(list(results.in_int8), plotted=plotted),
    ]
    return "\n".join([head, *(line for part in parts if part for line in ("", *part))])


def text_of_ranges(target: str, edges: Sequence[float]) -> str:
    """Where each timestep range ends; "" where there is only one. edges: rising, from 0 to 1, one more than ranges."""
    ends = [f"up to {edge:.4g}" for edge in edges[1:]]
    if len(ends) == 1:
        return ""
    return f"{target}: {len(ends)} timestep ranges by noise level sqrt(alpha_bar): {', '.join(ends)}"


def files_of_report(targets: Sequence[str], *, plotted: bool) -> list[str]:
    """Links to the pictures and plots, and what they show, a line each."""
    meanings = {
        picture_file(target): f"float and int8 pictures of {target}, and their difference" for target in targets
    }
    meanings |= PLOTS if plotted else {}
    return ["Pictures and plots:", "", *(f"* [{name}]({name}): {what}" for name, what in meanings.items())]


def _frontier(calibrated: Calibrated) -> list[str]:
    """What was tried on calibration pictures on the way to the layers that stay in float."""
    cells = [["target", "layers in float", "fidelity", "worst plain", "PSNR"]]
    for target, choice in calibrated.choices.items():
        for trial in choice.trials:
            drop, mark = trial.found.psnr_drop, "**" if trial.in_float == choice.in_float else ""
            figures = [f"{_finite(trial.found.mean):.1f} dB", f"{_finite(trial.worst):.1f} dB"]
            figures.append("-" if drop is None else f"{-drop:+.3f}")
            cells.append([target, f"{mark}{len(trial.in_float)}{mark}", *figures])
    heading = "What was tried on calibration pictures; the bold row was kept (fidelity: default preset):"
    return [heading, "", *markdown_table(cells)]


def _finite(decibels: float) -> float:
    """Equal pictures are infinitely alike, JSON is not."""
    return min(decibels, 200.0)
