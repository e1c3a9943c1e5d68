"""What was quantized: the targets and what they cost, the ranges over noise levels, the scales, what stays in float."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from deploy.bundle.quantization import Int8Target
from deploy.report.chapters.verdict import verdicts
from deploy.report.facts import TARGETS, Facts, Figures
from deploy.report.html.drawings import bar, heat_map, short_name
from deploy.report.html.markup import Child, Markup, tag
from deploy.report.html.parts import (
    Column,
    Section,
    bullets,
    code,
    definitions,
    folded,
    paragraph,
    subheading,
    table,
    text_column,
)
from deploy.report.html.values import Record, listed, number, numbers, record, records, text, within
from deploy.report.html.wording import (
    count_of,
    listing,
    plain_value,
    signed,
    text_from_bytes,
    text_from_ratio,
    text_from_seconds,
)

COLUMNS = (
    text_column("target"),
    Column("ranges", "of noise levels, each with activation scales of its own"),
    Column("in float", "layers that stay in float"),
    Column("weights", "of the denoiser, and their share of the float ones"),
    Column("step", "one step in int8, of an output of 128×128 pixels"),
    Column("faster", "times, than float32 on the same engine"),
    Column("fidelity", "dB between int8 and float pictures from the same noise, mean"),
    Column("worst", "the least of the pictures"),
    Column("plain", "the same mean for plain ddim from pure noise, without the preset's aids"),
    Column("look", "what the mean SSIMULACRA2 against the originals changed"),
    Column("PSNR", "dB that the mean PSNR against the originals changed"),
    Column("SSIM", "what the mean SSIM against the originals changed"),
)

UNKNOWN = "–"


def int8_section(facts: Facts) -> Section | None:
    """The chapter about int8; None for a bundle that has none."""
    quantization = facts.bundle.manifest.quantization
    if quantization is None:
        return None
    by_target = _by_target(facts, facts.quantization)
    rows = [_row(name, entry, record(by_target.get(name))) for name, entry in facts.targets.items()]
    note = None
    if not by_target:
        note = "Some figures are missing: the report folder of this quantization was not found beside the bundle."
    elif facts.quantization and (pictures := listed(facts.quantization.data.get("pictures"))):
        crops = count_of(len(pictures), "crop")
        many = number(facts.quantization.data.get("photographs"))
        of = "held-out photographs" if many is None else f"{many:.0f} held-out photographs"
        note = f"Measured by quantize with the default preset on {crops} of {of}."
    return Section(
        anchor="int8",
        title="In int8",
        lede="Convolutions and linear layers in 8 bits; weights once, activation scales per range of noise levels.",
        body=(
            tag("ul", [verdict.html() for verdict in verdicts(facts)], class_="verdicts"),
            table("Targets", COLUMNS, rows, note=note),
            *_budget(facts),
            *_ranges(facts),
            *_activations(facts),
            *_in_float(by_target),
            *_decoder(by_target),
            *_weights(facts),
            *_calibration(facts, quantization.settings),
        ),
    )


def _by_target(facts: Facts, figures: Figures | None) -> Record:
    """What a report says of the bundle's targets, in the order of the page."""
    entries = record(within(figures.data, "targets")) if figures else {}
    return {name: entries[name] for name in facts.targets if name in entries}


def _row(name: str, entry: Int8Target, measured: Record) -> list[Child]:
    preset, seconds = record(measured.get("preset")), record(measured.get("seconds_per_step"))
    held_out = entry.held_out
    layers, in_float = number(measured.get("layers")), measured.get("in_float")
    size, share = number(measured.get("bytes")), number(measured.get("share_of_float_bytes"))
    before, after = number(seconds.get("float")), number(seconds.get("int8"))
    lost = None if held_out is None else held_out.psnr_drop
    change = -lost if lost is not None else number(preset.get("psnr_change"))
    ssim = number(preset.get("ssim_change"))
    seen = None if held_out is None else held_out.ssimulacra2_drop
    look = -seen if seen is not None else number(preset.get("ssimulacra2_change"))
    weights = (
        None
        if size is None
        else (text_from_bytes(size), tag("small", f"{share:.0%} of float", class_="reach") if share else None)
    )
    return [
        TARGETS.get(name, name),
        str(len(entry.edges) - 1),
        f"{len(in_float)} of {layers:.0f}" if layers is not None and isinstance(in_float, list) else UNKNOWN,
        weights or UNKNOWN,
        text_from_seconds(after) if after else UNKNOWN,
        text_from_ratio(before / after) if before and after else UNKNOWN,
        _decibels(preset.get("mean", None if held_out is None else held_out.fidelity_db)),
        _decibels(preset.get("worst")),
        _decibels(within(measured, "plain", "mean")),
        UNKNOWN if look is None else signed(look, 2),
        UNKNOWN if change is None else signed(change, 3),
        UNKNOWN if ssim is None else signed(ssim, 4),
    ]


def _decibels(value: object) -> str:
    decibels = number(value)
    return UNKNOWN if decibels is None else f"{decibels:.1f} dB"


def _budget(facts: Facts) -> Iterator[Markup]:
    """What was allowed, beside what it came to on the calibration pictures that the decision was made with."""
    quantization = facts.bundle.manifest.quantization
    allowed = None if quantization is None else quantization.max_psnr_drop
    frontier = record(within(facts.quantization.data, "frontier")) if facts.quantization else {}
    changes = []
    for name in facts.targets:
        trials = records(frontier.get(name))
        drop = number(trials[-1].get("psnr_drop")) if trials else None
        if drop is not None:
            tried = f" after {len(trials)} settings" if len(trials) > 1 else ""
            changes.append(f"{TARGETS.get(name, name)} {signed(-drop, 3)} dB{tried}")
    if allowed is not None:
        result = f" On the calibration pictures it changed by: {listing(changes)}." if changes else ""
        yield paragraph(f"Budget: the mean PSNR may fall by {allowed:g} dB at the default preset.{result}")


def _ranges(facts: Facts) -> Iterator[Markup]:
    """The ranges as a table per set of edges, and what further ones would be worth."""
    by_edges: dict[tuple[float, ...], list[str]] = {}
    for name, entry in facts.targets.items():
        by_edges.setdefault(entry.edges, []).append(TARGETS.get(name, name))
    yield subheading("Ranges of noise levels")
    for edges, names in by_edges.items():
        rows: list[list[Child]] = [
            [str(index + 1), f"{low:.4g}", f"{high:.4g}", str(sum(low <= level < high for level in facts.levels))]
            for index, (low, high) in enumerate(pairwise(edges))
        ]
        columns = [text_column("range"), Column("from"), Column("up to")]
        columns.append(Column("calibrated steps", "noise levels that were recorded within it"))
        yield table(listing(names), columns, rows)
    yield from _partition(facts)


def _partition(facts: Facts) -> Iterator[Markup]:
    targets = _by_target(facts, facts.calibration)
    curves: dict[tuple[float, ...], list[str]] = {}
    for name, entry in targets.items():
        costs = numbers(record(entry).get("partition_costs"))
        if len(costs) > 1 and costs[0] > 0:
            curves.setdefault(tuple(costs[:8]), []).append(TARGETS.get(name, name))
    for curve, names in curves.items():
        rows: list[list[Child]] = [
            [str(count), bar(cost / curve[0], f"{cost / curve[0]:.0%}"), f"{cost / curve[0]:.1%}"]
            for count, cost in enumerate(curve, 1)
        ]
        columns = [text_column("ranges"), text_column(""), Column("expected error")]
        yield folded(f"What further ranges are worth: {listing(names)}", table("One range is 100 %", columns, rows))


def _activations(facts: Facts) -> Iterator[Markup]:
    """How the largest values move with the noise level, or the scales themselves where that is not known."""
    movement = record(within(facts.quantization.data, "movement")) if facts.quantization else {}
    levels = facts.levels
    moved = [(name, row) for name, row in _rows_of_numbers(movement.get("tensors")) if len(row) == len(levels)]
    usual, largest = number(movement.get("median_ratio")), number(movement.get("largest_ratio"))
    if moved and levels:
        yield subheading("How activations move")
        if usual is not None and largest is not None:
            yield paragraph(
                "From one noise level to another, the largest value of a layer's input, over part of the pictures at "
                f"each, changes {usual:.2f}-fold in the median and {largest:.2f}-fold at most."
            )
        columns = [f"noise level {level:.3g}" for level in levels]
        inner = [sum(level < edge for level in levels) for edge in facts.edges[1:-1]]
        caption = "Largest value of each layer's input, as a share of its own largest; lines: where ranges end"
        yield folded(f"All {len(moved)} inputs over noise levels", heat_map(caption, moved, columns, inner))
    yield from _scales(facts)


def _rows_of_numbers(value: object) -> Iterator[tuple[str, list[float]]]:
    for name, row in record(value).items():
        figures = numbers(row)
        if figures:
            yield str(name), figures


def _scales(facts: Facts) -> Iterator[Markup]:
    targets = _by_target(facts, facts.calibration)
    targets_of_form: dict[str, list[str]] = {}
    maps: dict[str, list[tuple[str, list[float]]]] = {}
    for target, entry in targets.items():
        rows = [
            (str(node), scales)
            for node, layer in record(record(entry).get("layers")).items()
            if (scales := _input_scales(layer))
        ]
        if rows and len(rows[0][1]) > 1:
            form = text(record(entry).get("form")) or target
            targets_of_form.setdefault(form, []).append(TARGETS.get(target, target))
            maps[form] = rows
    for form, rows in maps.items():
        columns = [f"range {index + 1}" for index in range(max(len(scales) for _, scales in rows))]
        summary = f"Activation scales of {count_of(len(rows), 'layer')}, {form}: {listing(targets_of_form[form])}"
        yield folded(summary, heat_map("Each scale as a share of its layer's largest", rows, columns))


def _input_scales(layer: object) -> list[float]:
    return numbers([quantizer.get("scale") for quantizer in records(record(layer).get("inputs"))])


def _in_float(measured: Record) -> Iterator[Markup]:
    """Which layers the budget kept in float, by target; targets that agree together."""
    targets_of_layers: dict[tuple[str, ...], list[str]] = {}
    for name, entry in measured.items():
        layers = record(entry).get("in_float")
        names = [node for node in layers if isinstance(node, str)] if isinstance(layers, list) else []
        targets_of_layers.setdefault(tuple(names), []).append(TARGETS.get(name, name))
    if not targets_of_layers:
        return
    yield subheading("What stays in float")
    yield paragraph("First and last convolution, the noise-level table, normalisation and softmax always do.")
    for layers, targets in targets_of_layers.items():
        if layers:
            yield paragraph(
                f"For {listing(targets)}, because they spoil most for what they compute, or to stay within the budget:"
            )
            yield bullets(code(layer) for layer in layers)
        else:
            yield paragraph(f"For {listing(targets)} the budget asks for no other layer.")


def _decoder(measured: Record) -> Iterator[Markup]:
    """What of the latent family's decoder is in int8, and how near its pictures are to those of the float one."""
    items = []
    for name, entry in measured.items():
        decoder = record(record(entry).get("decoder"))
        trials = records(decoder.get("trials"))
        if not trials:
            continue
        parts = [str(graph) for graph in listed(decoder.get("int8"))]
        mean, worst = (_decibels(trials[-1].get(key)) for key in ("mean", "worst"))
        distance = f"{mean} against the float decoder in the mean, {worst} at the least"
        outcome = f"{listing(parts)} in int8" if parts else "stays in float; the last that was tried"
        items.append(f"{TARGETS.get(name, name)}: {outcome}{', ' if parts else ': '}{distance}.")
    if items:
        yield subheading("The decoder")
        yield bullets(items)


def _weights(facts: Facts) -> Iterator[Markup]:
    """Signal over rounding noise of the weights, the worst layers first."""
    of_layers = record(within(facts.quantization.data, "weights_sqnr_db")) if facts.quantization else {}
    ranked = sorted((value, str(name)) for name, figure in of_layers.items() if (value := number(figure)) is not None)
    if not ranked:
        return
    values = [value for value, _ in ranked]
    highest = values[-1] or 1.0
    rows: list[list[Child]] = [
        [code(short_name(name)), bar(value / highest, f"{value:.1f} dB"), f"{value:.1f} dB"]
        for value, name in ranked[:8]
    ]
    yield subheading("Weights")
    yield paragraph(
        f"Signal over rounding noise per layer: {values[0]:.1f} dB at the least, {median(values):.1f} dB in the "
        f"median, {values[-1]:.1f} dB at most, over {count_of(len(values), 'layer')}."
    )
    columns = [text_column("layer"), text_column(""), Column("signal over noise")]
    yield folded("The layers that rounding hurts most", table("Weights in int8, the worst layers", columns, rows))


def _calibration(facts: Facts, settings: Mapping[str, Any]) -> Iterator[Markup]:
    """What it was calibrated on, and with which settings."""
    pictures = facts.bundle.manifest.calibration_images or {}
    yield subheading("Calibration")
    if pictures:
        yield paragraph(f"Recorded on real sampling runs of {count_of(len(pictures), 'picture')}.")
        rows: list[list[Child]] = [[code(name), code(digest[:16])] for name, digest in sorted(pictures.items())]
        columns = [text_column("picture"), text_column("SHA-256 begins")]
        yield folded(f"The {count_of(len(pictures), 'picture')}", table("Calibration pictures", columns, rows))
    if settings:
        pairs: list[tuple[Child, Child]] = [
            (code(name), code(plain_value(value))) for name, value in sorted(settings.items())
        ]
        yield folded("Settings", definitions(pairs))
