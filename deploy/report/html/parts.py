"""What the page is put together from: sections, tables, lists of facts."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.report.html.markup import Child, Children, Markup, tag


@dataclass(frozen=True, kw_only=True)
class Section:
    """One chapter of the page. `anchor` is its address within the page, `lede` the sentence under its title."""

    anchor: str
    title: str
    lede: Child = None
    body: tuple[Child, ...]

    def html(self) -> Markup:
        """The section with its heading on the left, or above where the page is narrow."""
        heading = tag("h2", self.title, id=f"{self.anchor}-title")
        lede = None if self.lede is None else tag("p", self.lede, class_="lede")
        return tag(
            "section",
            tag("div", heading, lede, class_="head"),
            tag("div", self.body, class_="body"),
            id=self.anchor,
            aria_labelledby=f"{self.anchor}-title",
        )


@dataclass(frozen=True)
class Column:
    """A column's heading, what it means, and whether it holds numbers; `drawn` stands in the heading's place."""

    heading: str
    meaning: str | None = None
    numeric: bool = True
    drawn: Markup | None = None


def text_column(heading: str, meaning: str | None = None) -> Column:
    """A column of words."""
    return Column(heading, meaning=meaning, numeric=False)


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]], *, note: Child = None) -> Markup:
    """A table that scrolls sideways where it is wider than the page. The first cell of a row names the row.

    A row that is shorter than the heading ends in a remark that takes the rest of its width. What the columns mean is
    seen by hovering over their headings, and below the table by whoever cannot hover.
    """
    head = [
        tag("th", column.drawn or column.heading, scope="col", title=column.meaning, class_=_kind(column))
        for column in columns
    ]
    meanings: list[tuple[Child, Child]] = [(column.heading, column.meaning) for column in columns if column.heading]
    body = [tag("tr", _cells(columns, row)) for row in rows]
    framed = tag("table", tag("caption", tag("span", caption)), tag("thead", tag("tr", head)), tag("tbody", body))
    scrolled = tag("div", framed, class_="scroll", role="region", aria_label=caption, tabindex="0")
    below = None if note is None else tag("figcaption", note)
    explained = (
        folded("What the columns mean", definitions(meanings)) if any(meaning for _, meaning in meanings) else None
    )
    return tag("figure", scrolled, below, explained, class_="tabular")


def _cells(columns: Sequence[Column], row: Sequence[Child]) -> list[Markup]:
    cells = [tag("th", row[0], scope="row")]
    for index, cell in enumerate(row[1:], 1):
        rest = len(columns) - index if index == len(row) - 1 else 1
        cells.append(
            tag("td", cell, class_="remark", colspan=rest)
            if rest > 1
            else tag("td", cell, class_=_kind(columns[index]))
        )
    return cells


def _kind(column: Column) -> str | None:
    return "number" if column.numeric else None


def definitions(pairs: Sequence[tuple[Child, Child]]) -> Markup:
    """Names with what they are; pairs without a value are left out."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value], class_="facts")


def paragraph(*children: Child) -> Markup:
    """A paragraph of text."""
    return tag("p", children)


def subheading(text: str) -> Markup:
    """A heading within a section."""
    return tag("h3", text)


def code(text: str) -> Markup:
    """Something to type, or a name that a program gave."""
    return tag("code", text)


def badge(text: str, kind: str | None = None) -> Markup:
    """A word in a box; `kind` "warn" draws the eye to it."""
    return tag("span", text, class_=f"badge {kind}" if kind else "badge")


def folded(summary: str, *children: Child) -> Markup:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", summary), children)


def bullets(items: Children) -> Markup:
    """A list without an order."""
    return tag("ul", [tag("li", item) for item in items])
