"""Speed, memory and size as `idm-deploy bench` measured them; a part or figure that is not there is not shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.report.facts import Facts
from deploy.report.html.drawings import bar
from deploy.report.html.markup import Child, Markup
from deploy.report.html.parts import Column, Section, badge, definitions, table, text_column
from deploy.report.html.values import Record, number, numbers, record, records, text, within
from deploy.report.html.wording import text_from_bytes, text_from_ratio, text_from_seconds

Cell = Callable[[Record], str]


@dataclass(frozen=True)
class Shown:
    """A column: its heading, what it means, and what a row says there ("" for nothing)."""

    heading: str
    cell: Cell
    meaning: str | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table of the bench: its title, the figure that is drawn as a bar, and the columns."""

    title: str
    drawn: str
    columns: tuple[Shown, ...]


def _figure(key: str, written: Callable[[float], str]) -> Cell:
    def cell(row: Record) -> str:
        figure = number(row.get(key))
        return "" if figure is None else written(figure)

    return cell


def _spread(row: Record) -> str:
    times = numbers(row.get("times_ms"))
    return f"{_milliseconds(min(times))} to {_milliseconds(max(times))}" if len(times) > 1 else ""


def _milliseconds(value: float) -> str:
    return text_from_seconds(value / 1e3)


MEDIAN = Shown("median", _figure("median_ms", _milliseconds))
SPREAD = Shown("fastest to slowest", _spread)
STEP_COLUMNS = (
    MEDIAN,
    SPREAD,
    Shown("faster", _figure("ratio", text_from_ratio), "than the first"),
)
STEP_TITLES = {"step": "One step", "decode": "Decoding"}

PARTS: Mapping[str, Part] = {
    "pictures": Part(
        title="A whole picture, everything included",
        drawn="median_ms",
        columns=(Shown("steps", _figure("evaluations", "{:.0f}".format)), MEDIAN, SPREAD),
    ),
    "batches": Part(
        title="Pictures at once",
        drawn="pictures_per_second",
        columns=(
            Shown("pictures per second", _figure("pictures_per_second", "{:.3g}".format)),
            MEDIAN,
            Shown("together", _figure("at_once", "{:.0f}".format), "in one step"),
        ),
    ),
    "sizes": Part(
        title="How cost grows with the size",
        drawn="us_per_pixel",
        columns=(
            Shown("per pixel", _figure("us_per_pixel", "{:.3g} µs".format)),
            MEDIAN,
            Shown("tiles", _figure("tiles", "{:.0f}".format)),
        ),
    ),
    "start_up": Part(
        title="A new process: time until each point, and its memory",
        drawn="ready",
        columns=(
            Shown("bundle open", _figure("opened", text_from_seconds)),
            Shown("engine ready", _figure("ready", text_from_seconds)),
            Shown("first picture", _figure("first_picture", text_from_seconds), "of one step"),
            Shown("resident", _figure("resident_bytes", text_from_bytes)),
            Shown("peak", _figure("peak_bytes", text_from_bytes)),
            Shown("GPU", _figure("device_bytes", text_from_bytes)),
        ),
    ),
    "roofline": Part(
        title="Operations per second, beside a large matrix product",
        drawn="fraction",
        columns=(
            Shown("product", _figure("peak", lambda rate: f"{rate / 1e9:.0f} G")),
            Shown("step", _figure("reached", lambda rate: f"{rate / 1e9:.0f} G")),
            Shown("share", _figure("fraction", "{:.0%}".format)),
        ),
    ),
}
"""In the order of the page."""


def speed_section(facts: Facts) -> Section | None:
    """Everything in the bench that was given or made; None without, or if it says nothing that is known here."""
    if facts.bench is None:
        return None
    tables = list(_tables(facts.bench.data))
    if not tables:
        return None
    return Section(
        anchor="speed",
        title="Speed",
        lede=f"From {facts.bench.origin}. All contenders took turns in one process; medians.",
        body=(_hardware(facts.bench.data), *tables),
    )


def _hardware(data: Record) -> Markup:
    versions = [f"{name} {version}" for name, version in record(data.get("versions")).items() if text(version)]
    lr, size = text(data.get("lr_size")), text(data.get("size"))
    return definitions(
        [
            ("Processor", text(data.get("cpu"))),
            ("Pictures", f"{lr} to {size}" if lr and size else size),
            ("Batch", _figure("batch", "{:.0f}".format)(data)),
            ("Threads", _figure("threads", "{:.0f}".format)(data)),
            ("Versions", ", ".join(versions)),
            ("Careful", text(data.get("note"))),
        ]
    )


def _tables(data: Record) -> Iterator[Markup]:
    for kind, rows in record(data.get("timings")).items():
        title = STEP_TITLES.get(str(kind), str(kind).replace("_", " "))
        yield from _table(Part(title=title, drawn="median_ms", columns=STEP_COLUMNS), records(rows))
    for name, part in PARTS.items():
        rows = records(within(data, name, "rows"))
        engine = text(within(data, name, "engine"))
        title = f"{part.title}, {engine}" if engine else part.title
        columns = part.columns + (_times_faster(rows) if name == "pictures" else ())
        yield from _table(Part(title=title, drawn=part.drawn, columns=columns), rows)
    yield from _disk(record(data.get("disk")))


def _times_faster(rows: Sequence[Record]) -> tuple[Shown, ...]:
    """One column per published sampler that pictures were held against."""
    names = dict.fromkeys(str(name) for row in rows for name in record(row.get("times_faster")))

    def ratio_to(name: str) -> Cell:
        return lambda row: _figure(name, text_from_ratio)(record(row.get("times_faster")))

    return tuple(Shown(f"× {name}", ratio_to(name), f"times faster than {name}") for name in names)


def _table(part: Part, rows: Sequence[Record]) -> Iterator[Markup]:
    """The table with the columns that say something; nothing if there are no rows."""
    columns = [column for column in part.columns if any(column.cell(row) for row in rows)]
    if not rows:
        return
    # What was not made but computed from a few steps is off the scale of what was.
    timed = [row for row in rows if number(row.get("extrapolated_from_steps")) is None]
    drawn = [figure for row in timed if (figure := number(row.get(part.drawn))) is not None]
    headings = [text_column(""), text_column("")]
    headings += [Column(column.heading, column.meaning) for column in columns]
    yield table(part.title, headings, [_row(row, part.drawn, max(drawn, default=0.0), columns) for row in rows])


def _row(row: Record, drawn: str, largest: float, columns: Sequence[Shown]) -> list[Child]:
    name = text(row.get("name")) or "?"
    steps = number(row.get("extrapolated_from_steps"))
    label: Child = (name, " ", badge(f"extrapolated from {steps:.0f} timed steps")) if steps else name
    if failure := text(row.get("failure")):
        return [label, failure]
    value = number(row.get(drawn))
    drawing = bar(value / largest, name) if value is not None and largest > 0 and not steps else ""
    return [label, drawing, *(column.cell(row) for column in columns)]


def _disk(sizes: Record) -> Iterator[Markup]:
    of_parts = {str(name): size for name, value in sizes.items() if (size := number(value)) is not None and size > 0}
    if of_parts:
        largest = max(of_parts.values())
        rows: list[list[Child]] = [
            [name, bar(size / largest, name), text_from_bytes(size)] for name, size in of_parts.items()
        ]
        yield table("On disk", [text_column(""), text_column(""), Column("size")], rows)
