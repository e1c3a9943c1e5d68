"""Quality against originals: from the evaluation that was given, or from this page's own pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.measure.evaluation.measures import MEASURES
from deploy.report.facts import Facts, Figures
from deploy.report.html.drawings import ValueAxis, whisker
from deploy.report.html.markup import Child, Markup, tag
from deploy.report.html.parts import Column, Section, badge, paragraph, table, text_column
from deploy.report.html.values import Record, number, record, records, text, within
from deploy.report.html.wording import count_of, text_from_seconds, with_interval

DECIMALS = 3
"""Of measures that this version does not know."""

UNITS = {"psnr": "dB", "psnr_y": "dB", "lr_consistency": "dB", "scale_consistency": "dB"}
"""Of the measures that have one; others are shares or differences without."""

SOMETIMES = {
    "psnr_over_back_projection": Column("gain", "PSNR over bicubic with back-projections, in dB"),
    "fidelity": Column("fidelity", "dB to the same pictures in float32, from the same noise"),
    "seconds": Column("time", "of one picture, everything included; median"),
}
"""Columns behind the measures, where some row has them."""

OWN = "this page's own pictures"


def quality_section(facts: Facts) -> Section | None:
    """Every row of the evaluation that was given, else of the page's pictures; None without either."""
    own = facts.gallery.evaluation if facts.gallery else None
    figures = facts.evaluation or (Figures(data=own, origin=OWN) if own else None)
    if figures is None or not records(figures.data.get("rows")):
        return None
    photographs = _photographs(records(figures.data.get("originals")))
    return Section(
        anchor="quality",
        title="Quality",
        lede=(
            "Against originals, beside what filters reach without a model. ",
            f"Means with 95 % intervals over the {'photographs' if photographs else 'pictures'}."
            if figures.origin != OWN
            else "Means over few pictures: a hint.",
        ),
        body=(*_tables(figures),),
    )


def _tables(figures: Figures) -> Iterator[Markup]:
    """A table for each scale, what its measures mean, and which setting the evaluation recommends."""
    data = figures.data
    rows = records(data.get("rows"))
    whole = number(data.get("scale"))
    scales = list(dict.fromkeys(number(row.get("scale")) for row in rows))
    measures = _measures(rows)
    for scale in scales:
        originals = [
            original for original in records(data.get("originals")) if number(original.get("scale")) in (scale, None)
        ]
        factor = whole if scale is None else scale
        parts = [
            f"{factor:g}×" if factor else "",
            _counts(originals) if originals else "",
            figures.origin,
        ]
        of_scale = [row for row in rows if number(row.get("scale")) == scale]
        recommended = _recommended(figures, scale)
        of_scale_table = _Table(
            data=data,
            rows=of_scale,
            measures=measures,
            recommended=recommended,
            with_intervals=figures.origin != OWN,  # of two or three pictures they would be wider than the scale
        )
        yield of_scale_table.html(", ".join(part for part in parts if part))
    if protocol := text(data.get("protocol")):
        yield paragraph(f"{protocol[0].upper()}{protocol[1:]}.")
    if (rule := text(data.get("rule"))) and any(_recommended(figures, scale) for scale in scales):
        yield paragraph(f"Recommended: {rule}.")


def _photographs(originals: Sequence[Record]) -> int | None:
    """Of how many photographs the originals are; None: an older evaluation does not say."""
    names = [text(original.get("photograph")) for original in originals]
    return len(set(names)) if names and all(names) else None


def _counts(originals: Sequence[Record]) -> str:
    photographs = _photographs(originals)
    of = "" if photographs is None else f" of {count_of(photographs, 'photograph')}"
    return f"{count_of(len(originals), 'original')}{of}"


def _recommended(figures: Figures, scale: float | None) -> frozenset[str]:
    """Which setting the evaluation recommends; this page's few pictures are no ground to recommend anything."""
    data: Record = {} if figures.origin == OWN else figures.data
    settings = [setting for setting in records(data.get("recommended")) if number(setting.get("scale")) == scale]
    return frozenset(str(setting.get("name")) for setting in settings if setting.get("name") != setting.get("baseline"))


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The rows of one scale."""

    data: Record
    rows: Sequence[Record]
    measures: Sequence[str]
    recommended: frozenset[str]
    with_intervals: bool

    def html(self, caption: str) -> Markup:
        """The table: a drawing of the first measure, every measure, gain, fidelity and time where there are any."""
        first = list(self.measures[:1])
        columns = [text_column("")]
        columns += [Column("", numeric=False, drawn=self._axis(name).html(_with_unit(name))) for name in first]
        columns += [Column(_heading(name), meaning=_meaning(self.data, name)) for name in self.measures]
        columns += [column for key, column in SOMETIMES.items() if self._has(key)]
        return table(caption, columns, [self._row(row) for row in self.rows])

    def _has(self, key: str) -> bool:
        return any(number(row.get(key)) or record(row.get(key)) for row in self.rows)

    def _row(self, row: Record) -> list[Child]:
        name = text(row.get("name")) or "?"
        label: Child = (name, " ", badge("recommended")) if name in self.recommended else name
        if text(row.get("failure")):
            return [label, text(row.get("failure"))]
        figures = record(row.get("figures"))
        cells: list[Child] = [label, *(self._whisker(figures.get(measure), measure) for measure in self.measures[:1])]
        cells += [self._cell(figures.get(measure), measure) for measure in self.measures]
        if self._has("psnr_over_back_projection"):
            cells.append(self._cell(row.get("psnr_over_back_projection"), "psnr", sign=True))
        if self._has("fidelity"):
            cells.append(self._cell(row.get("fidelity"), "lr_consistency"))
        if self._has("seconds"):
            seconds = number(row.get("seconds"))
            cells.append(text_from_seconds(seconds) if seconds else "")
        return cells

    def _cell(self, value: object, measure: str, *, sign: bool = False) -> Child:
        """The mean, and its interval under it: many columns fit beside each other."""
        mean, half = self._interval(value)
        if mean is None:
            return ""
        decimals = MEASURES[measure].decimals if measure in MEASURES else DECIMALS
        figure, _, reach = with_interval(mean, half, decimals, sign=sign).partition(" ")
        return (figure, tag("small", reach, class_="reach")) if reach else figure

    def _whisker(self, value: object, measure: str) -> Child:
        mean, half = self._interval(value)
        if mean is None:
            return ""
        return whisker(mean, half, self._axis(measure), f"{_with_unit(measure)} {with_interval(mean, half, 2)}")

    def _axis(self, measure: str) -> ValueAxis:
        """The axis from the lowest end of an interval to the highest."""
        intervals = [self._interval(record(row.get("figures")).get(measure)) for row in self.rows]
        ends = [mean + side * (half or 0.0) for mean, half in intervals if mean is not None for side in (-1, 1)]
        return ValueAxis(low=min(ends, default=0.0), high=max(ends, default=1.0))

    def _interval(self, value: object) -> tuple[float | None, float | None]:
        return number(within(value, "mean")), number(within(value, "half_width")) if self.with_intervals else None


def _measures(rows: Sequence[Record]) -> list[str]:
    """The measures with a figure in some row: the known ones in their order, then others by name."""
    of_rows = [record(row.get("figures")) for row in rows]
    names = {
        str(name)
        for figures in of_rows
        for name, figure in figures.items()
        if number(within(figure, "mean")) is not None
    }
    return [*(name for name in MEASURES if name in names), *sorted(names - MEASURES.keys())]


def _heading(measure: str) -> str:
    return MEASURES[measure].heading if measure in MEASURES else measure.replace("_", " ")


def _with_unit(measure: str) -> str:
    return f"{_heading(measure)}, {UNITS[measure]}" if measure in UNITS else _heading(measure)


def _meaning(data: Record, measure: str) -> str | None:
    return text(within(data, "measures", measure)) or (MEASURES[measure].meaning if measure in MEASURES else None)
