"""The figures of `benchmarks.int8` as Markdown."""

from __future__ import annotations

from typing import Any

from deploy.measure.evaluation.tables import text_from_counts
from deploy.measure.metrics import mean_with_interval, paired_difference

Record = dict[str, Any]


def table_of_ways(report: Record) -> str:
    """Markdown: one line per way and target, plain sampling and preset beside each other."""
    fidelities = ["plain, mean", "worst", report["preset"], "worst"]
    head = ["", "target", "ranges", "MAC in float", *fidelities, "PSNR", "SSIM", "SSIMULACRA2"]
    lines = [head, ["---"] * len(head)]
    rows = {(row["target"], row["way"], row["sampling"]): row for row in report["rows"]}
    for (target, way, sampling), plain in rows.items():
        if sampling != "plain" or (target, way, "preset") not in rows:
            continue
        preset = rows[target, way, "preset"]
        share = plain["share_of_multiplications_in_float"]
        lines.append(
            [
                way,
                target,
                "-" if share is None else str(plain["ranges"]),
                "-" if share is None else f"{share:.1%}",
                *(f"{row[key]:.1f}" for row in (plain, preset) for key in ("mean", "worst")),
                f"{preset['psnr_change']:+.3f}",
                f"{preset['ssim_change']:+.4f}",
                f"{preset['ssimulacra2_change']:+.2f}",
            ]
        )
    return _titled(report, lines)


def table_of_ranges(report: Record) -> str:
    """Markdown: one line per configuration and target, one range and several, and what they gain."""
    lines = [["", "target", "1 range", "ranges", "several", "gain, 95 %"], ["---"] * 6]
    rows: dict[tuple[str, str], list[Record]] = {}
    for row in report["rows"]:
        rows.setdefault((row["target"], row["way"]), []).append(row)
    for (target, way), pair in rows.items():
        if len(pair) < 2:
            continue
        one, several = pair
        gain = paired_difference(several["fidelity"], one["fidelity"], report["photographs"])
        interval = "" if gain.half_width is None else f" ±{gain.half_width:.2f}"
        lines.append(
            [
                way,
                target,
                f"{mean_with_interval(one['fidelity']).mean:.2f}",
                str(several["ranges"]),
                f"{mean_with_interval(several['fidelity']).mean:.2f}",
                f"{gain.mean:+.2f}{interval}",
            ]
        )
    return _titled(report, lines)


def _titled(report: Record, lines: list[list[str]]) -> str:
    pictures = text_from_counts(len(report["pictures"]), len(set(report["photographs"])))
    title = f"{report['bundle']}, {pictures}, PSNR in dB between int8 and float32"
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)])
