"""Plots of a quantization, for people."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.choose.clipping import expected_error
from calibration.choose.density import density_of, mixture_of
from calibration.passes.recipes import Scales
from deploy.int8.pipeline import Calibrated

INK, ACCENT = "#1c1e22", "#0f6cbd"

LINES: Final = (("#e4002b", "--"), ("#1c1e22", ":"), ("#d400c8", "-."))
"""Colour and style of where the ranges of targets end; there are at most three targets."""

LEAST_SPAN = 20.0
"""dB that the colours of a plot cover at least: over fewer, small differences would look large."""

RANGES, CURVE, SQNR = "ranges-over-noise-levels.png", "partition-curve.png", "sqnr.png"
PLOTS: Final = {
    RANGES: "how large each layer's input is at each noise level, and where timestep ranges end",
    CURVE: "the error expected of 1, 2, 3, ... timestep ranges, and how many were chosen",
    SQNR: "signal over quantization noise of each layer's weights, and of its input in each timestep range",
}
"""What the files show, a line each."""


def write_plots(calibrated: Calibrated, folder: Path) -> list[Path]:
    """The files of PLOTS."""
    import matplotlib

    matplotlib.use("Agg")
    return [
        _range_map(calibrated, folder / RANGES),
        _partition_curve(calibrated, folder / CURVE),
        _sqnr_map(calibrated, folder / SQNR),
    ]


def _shared(calibrated: Calibrated, key: Callable[[Scales], object]) -> list[tuple[list[str], Scales]]:
    """The scales that differ in `key`, each with the targets that share them."""
    shared: dict[object, tuple[list[str], Scales]] = {}
    for target, scales in calibrated.scales.items():
        shared.setdefault(key(scales), ([], scales))[0].append(target)
    return list(shared.values())


def _range_map(calibrated: Calibrated, path: Path) -> Path:
    """Each tensor's largest value at each level, relative to its largest of all."""
    moved = [tensor for tensor in calibrated.movement.tensors if max(tensor.largest) > 0]
    values = np.array([np.array(tensor.largest) / max(tensor.largest) for tensor in moved])
    figure, axes = _figure(10, 0.17 * len(moved) + 1.8)
    heat_map = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    _label_levels(axes, calibrated.plans.levels)
    axes.set_yticks(range(len(moved)), [_short(tensor.name) for tensor in moved], fontsize=6)
    different = _shared(calibrated, lambda scales: scales.partition.boundaries)
    for (targets, scales), (color, style) in zip(different, LINES, strict=False):
        inner = scales.partition.boundaries[1:-1]
        label = f"{', '.join(targets)}: {'ranges end' if inner else 'one range'}"
        axes.plot([], [], color=color, linewidth=1.5, linestyle=style if inner else "none", label=label)
        for boundary in inner:
            axes.axvline(boundary - 0.5, color=color, linewidth=1.5, linestyle=style)
    axes.set_title("How each layer's input moves; those that move most come first", pad=24)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.3, frameon=False, fontsize=8)
    figure.colorbar(heat_map, ax=axes, shrink=0.6, label="largest value at this noise level, of the largest at any")
    return _saved(figure, path)


def _partition_curve(calibrated: Calibrated, path: Path) -> Path:
    figure, axes = _figure(7, 4.2)
    for number, (targets, costs, ranges) in enumerate(_curves(calibrated)):
        counts = np.arange(1, len(costs) + 1)
        axes.plot(counts, costs, marker="o", markersize=4 + 2 * number, fillstyle="none", label=", ".join(targets))
        axes.plot([ranges], [costs[ranges - 1]], marker="*", markersize=14, color=ACCENT, linestyle="none")
    axes.set_xticks(range(1, max(len(scales.partitions) for scales in calibrated.scales.values()) + 1, 2))
    axes.set_xlabel("timestep ranges (star: chosen)")
    axes.set_ylabel("expected error, one range = 1")
    axes.set_ylim(0, 1.05)
    axes.set_title("What further ranges are worth")
    axes.legend(frameon=False)
    return _saved(figure, path)


def _curves(calibrated: Calibrated) -> list[tuple[list[str], NDArray[np.float64], int]]:
    """Targets, expected errors and the chosen number of ranges; targets whose curves cannot be told apart share one."""
    curves: list[tuple[list[str], NDArray[np.float64], int]] = []
    for target, scales in calibrated.scales.items():
        costs = np.array([partition.cost for partition in scales.partitions]) / scales.partitions[0].cost
        chosen = scales.partition.ranges
        for targets, others, ranges in curves:
            if ranges == chosen and others.shape == costs.shape and np.allclose(others, costs, atol=0.005):
                targets.append(target)
                break
        else:
            curves.append(([target], costs, chosen))
    return curves


def _sqnr_map(calibrated: Calibrated, path: Path) -> Path:
    """Weights by themselves, and inputs in every range of every kind of codes, in colours that all inputs share."""
    import matplotlib.pyplot as plt

    layers = list(calibrated.findings.layers.values())
    weights = [[min(layer.rounded.sqnr_db, 100.0)] for layer in layers]  # infinite where nothing was rounded
    different = _shared(calibrated, id)
    inputs = [[_sqnr_row(calibrated, layer.layer.input, scales) for layer in layers] for _, scales in different]
    counts = [len(scales.ranges) for _, scales in different]
    figure, (left, *others) = plt.subplots(
        1,
        1 + len(different),
        figsize=(6 + sum(max(count, 2) for count in counts), 0.17 * len(layers) + 2.2),
        layout="constrained",
        width_ratios=[1, *counts],
    )
    _drawn_sqnr(figure, [left], [weights], [["weights"]])
    names = [[f"range {index + 1}" for index in range(count)] for count in counts]
    _drawn_sqnr(figure, others, inputs, names)
    for axes, (targets, _) in zip(others, different, strict=True):
        axes.set_xlabel("inputs,\n" + ",\n".join(targets), fontsize=8)
        axes.set_yticks([])
    left.set_yticks(range(len(layers)), [_short(layer.layer.module + "/") for layer in layers], fontsize=6)
    figure.suptitle("Signal over quantization noise in dB")
    return _saved(figure, path)


def _drawn_sqnr(figure: Any, panels: list[Any], values: list[list[list[float]]], names: list[list[str]]) -> None:
    from matplotlib.ticker import MaxNLocator

    least, most = span_of(np.concatenate([np.ravel(rows) for rows in values]))
    for axes, rows, labels in zip(panels, values, names, strict=True):
        heat_map = axes.imshow(
            np.array(rows), aspect="auto", cmap="magma", interpolation="nearest", vmin=least, vmax=most
        )
        axes.set_xticks(range(len(labels)), labels, fontsize=8)
    bar = figure.colorbar(heat_map, ax=panels, location="top", aspect=12 * sum(map(len, names)), pad=0.01)
    bar.ax.tick_params(labelsize=8)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()


def span_of(decibels: NDArray[np.float64]) -> tuple[float, float]:
    """The least and the largest, or LEAST_SPAN around their middle: 40 and 43 dB give 31.5 and 51.5."""
    finite = decibels[np.isfinite(decibels)]
    if not finite.size:
        return 0.0, LEAST_SPAN
    least, most = float(finite.min()), float(finite.max())
    wider = max(LEAST_SPAN - (most - least), 0.0) / 2
    return least - wider, most + wider


def _sqnr_row(calibrated: Calibrated, tensor: str, scales: Scales) -> list[float]:
    return [
        _input_sqnr(calibrated, tensor, scales.levels_of(index), quantizer)
        for index, quantizer in enumerate(scales.quantizers[tensor])
    ]


def _input_sqnr(calibrated: Calibrated, tensor: str, levels: range, quantizer: Any) -> float:
    steps = calibrated.findings.inputs.of_tensor(tensor)
    mixed = mixture_of([density_of(steps[level]) for level in levels])
    error = expected_error(mixed, quantizer)
    signal = mixed.power * mixed.total
    return 10 * float(np.log10(signal / error)) if error > 0 and signal > 0 else float("nan")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.tick_params(colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _label_levels(axes: Any, levels: tuple[float, ...]) -> None:
    every = -(-len(levels) // 10)
    marks: NDArray[np.int64] = np.arange(0, len(levels), every)
    axes.set_xticks(marks, [f"{levels[mark]:.3g}" for mark in marks], fontsize=8)
    axes.set_xlabel("noise level sqrt(alpha_bar): noise on the left, picture on the right")


def _short(name: str) -> str:
    """The end of a tensor's or module's name, which tells it from others."""
    name = name.rsplit("/", 1)[0]
    for prefix in ("denoise_fn.", "model.diffusion_model."):
        name = name.removeprefix(prefix)
    return name


def _saved(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    # No date or version in the file: the same calibration gives the same bytes.
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
    return path
