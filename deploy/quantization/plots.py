"""Plots of a quantization, for people."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.clipping import expected_error
from calibration.density import density_of, mixture_of
from deploy.quantization.pipeline import Calibrated
from deploy.quantization.recipes import Scales

INK, ACCENT = "#1c1e22", "#0f6cbd"


def write_plots(calibrated: Calibrated, folder: Path) -> list[Path]:
    """The files: ranges over noise levels, the partition curve, SQNR per layer and range."""
    import matplotlib

    matplotlib.use("Agg")
    target, scales = next(iter(calibrated.scales.items()))
    return [
        _range_map(calibrated, scales, folder / "ranges-over-noise-levels.png"),
        _partition_curve(calibrated, folder / "partition-curve.png"),
        _sqnr_map(calibrated, target, scales, folder / "sqnr.png"),
    ]


def _range_map(calibrated: Calibrated, scales: Scales, path: Path) -> Path:
    """Each tensor's largest value at each level, relative to its largest of all."""
    moved = [one for one in calibrated.movement.tensors if max(one.largest) > 0]
    values = np.array([np.array(one.largest) / max(one.largest) for one in moved])
    figure, axes = _figure(10, 0.17 * len(moved) + 1.8)
    drawn = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    _label_levels(axes, calibrated.plans.levels)
    axes.set_yticks(range(len(moved)), [_short(one.name) for one in moved], fontsize=6)
    for boundary in scales.partition.boundaries[1:-1]:
        axes.axvline(boundary - 0.5, color="white", linewidth=1.5, linestyle="--")
    axes.set_title("How each layer's input moves; those that move most come first; dashed: where ranges end")
    figure.colorbar(drawn, ax=axes, shrink=0.6, label="largest value at this noise level, of the largest at any")
    return _saved(figure, path)


def _partition_curve(calibrated: Calibrated, path: Path) -> Path:
    figure, axes = _figure(7, 4.2)
    for number, (targets, costs, chosen) in enumerate(_curves(calibrated)):
        counts = np.arange(1, len(costs) + 1)
        axes.plot(counts, costs, marker="o", markersize=4 + 2 * number, fillstyle="none", label=", ".join(targets))
        axes.plot([chosen], [costs[chosen - 1]], marker="*", markersize=14, color=ACCENT, linestyle="none")
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
        costs = np.array([one.cost for one in scales.partitions]) / scales.partitions[0].cost
        chosen = scales.partition.ranges
        for targets, known, ranges in curves:
            if ranges == chosen and known.shape == costs.shape and np.allclose(known, costs, atol=0.005):
                targets.append(target)
                break
        else:
            curves.append(([target], costs, chosen))
    return curves


def _sqnr_map(calibrated: Calibrated, target: str, scales: Scales, path: Path) -> Path:
    """Weights by themselves, and inputs in every range, each with colours of their own."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    layers = list(calibrated.findings.layers.values())
    weights = [[min(one.rounded.sqnr_db, 100.0)] for one in layers]  # infinite where nothing was rounded
    inputs = [
        [
            _input_sqnr(calibrated, one.layer.input, scales.levels_of(index), quantizer)
            for index, quantizer in enumerate(scales.quantizers[one.layer.input])
        ]
        for one in layers
    ]
    count = len(scales.ranges)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(6 + count, 0.17 * len(layers) + 1.8), layout="constrained", width_ratios=[1, count]
    )
    parts = ((left, weights, ["weights"]), (right, inputs, [f"inputs,\nrange {index}" for index in range(count)]))
    for axes, values, names in parts:
        drawn = axes.imshow(np.array(values), aspect="auto", cmap="magma", interpolation="nearest")
        axes.set_xticks(range(len(names)), names, fontsize=8)
        bar = figure.colorbar(drawn, ax=axes, location="top", aspect=12 * len(names), pad=0.01)
        bar.ax.tick_params(labelsize=8)
        bar.locator = MaxNLocator(4)
        bar.update_ticks()
    left.set_yticks(range(len(layers)), [_short(one.layer.module + "/") for one in layers], fontsize=6)
    right.set_yticks([])
    figure.suptitle(f"Signal over quantization noise in dB ({target})")
    return _saved(figure, path)


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
