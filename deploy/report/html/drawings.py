"""Small drawings that keep their proportions from a phone to a desk: text in HTML, shapes in SVG without text.

Colours come from the page's style sheet by class, so the drawings follow light and dark.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from deploy.report.html.markup import Markup, tag
from deploy.report.html.wording import count_of
from deploy.sampling.schedule import log_snr_from_noise_level

TICKS = (0.01, 0.1, 0.5, 0.95, 0.999)
"""Noise levels that an axis names."""

SHADES = 10
"""Steps of the heat map's colours, classes h0 to h9."""


def bar(share: float, described: str) -> Markup:
    """A bar of that share of the full width, 0 to 1."""
    width = min(max(share, 0.0), 1.0)
    inner = tag("rect", class_="fill", width=f"{100 * width:.2f}%", height="100%", rx=2)
    return tag("svg", inner, class_="bar", role="img", aria_label=described)


@dataclass(frozen=True, kw_only=True)
class ValueAxis:
    """The values that all rows of a column share, from `low` on the left to `high` on the right."""

    low: float
    high: float

    def percent(self, value: float) -> str:
        """Where a value lies, with room for half a number at both ends."""
        span = (self.high - self.low) or 1.0
        return f"{10 + 80 * min(max((value - self.low) / span, 0.0), 1.0):.2f}%"

    @property
    def ticks(self) -> list[float]:
        """Two to five round values within the axis: multiples of 1, 2 or 5 times a power of ten."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = math.floor(math.log10(span))
        steps = [factor * 10.0**exponent for exponent in (power, power - 1) for factor in (5, 2, 1)]
        for step in steps:
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last > first:
                return [round(index * step, 9) for index in range(first, last + 1)]
        return [self.low, self.high]

    def html(self, label: str) -> Markup:
        """What the axis measures, and its ticks with their values, to stand above the rows."""
        marks = [tag("text", f"{value:g}".replace("-", "−"), x=self.percent(value), y="0.9em") for value in self.ticks]
        return tag("div", tag("span", label), tag("svg", marks, aria_hidden="true"), class_="axis above")

    def lines(self) -> list[Markup]:
        """A thin line at every tick, to stand behind a row."""
        return [
            tag("line", class_="grid", x1=self.percent(value), x2=self.percent(value), y1="0", y2="100%")
            for value in self.ticks
        ]


def whisker(mean: float, half_width: float | None, axis: ValueAxis, described: str) -> Markup:
    """A mean as a dot and its interval as a line, on the axis that all rows share."""
    line = None
    if half_width is not None:
        ends = {"x1": axis.percent(mean - half_width), "x2": axis.percent(mean + half_width)}
        line = tag("line", class_="reach", y1="50%", y2="50%", **ends)
    dot = tag("circle", class_="fill", cx=axis.percent(mean), cy="50%", r=4)
    return tag("svg", axis.lines(), line, dot, class_="whisker", role="img", aria_label=described)


@dataclass(frozen=True, kw_only=True)
class NoiseAxis:
    """Noise levels from noise (left) to picture (right), evenly spaced in their logarithmic signal-to-noise ratio.

    `noisiest` and `cleanest` are the ends; what lies beyond is drawn there.
    """

    noisiest: float
    cleanest: float

    def place(self, level: float) -> float:
        """Where a level lies, 0 to 100 with room for half a dot at both ends."""
        low, high = (log_snr_from_noise_level(end) for end in (self.noisiest, self.cleanest))
        share = (log_snr_from_noise_level(level) - low) / ((high - low) or 1.0)
        return 2 + 96 * min(max(share, 0.0), 1.0)

    def percent(self, level: float) -> str:
        """The same as SVG has it."""
        return f"{self.place(level):.2f}%"


def steps_chart(rows: Sequence[tuple[str, Sequence[float]]], axis: NoiseAxis, edges: Sequence[float] = ()) -> Markup:
    """Where steps lie, a line of dots per row; `edges` are those of int8 ranges."""
    lines = [
        tag(
            "div",
            tag("span", name, class_="label"),
            tag("svg", _bands(axis, edges), _dots(axis, levels), role="img", aria_label=_steps_text(name, levels)),
            class_="track",
        )
        for name, levels in rows
    ]
    marks = [tag("text", f"{level:g}", x=axis.percent(level), y="1em") for level in TICKS]
    foot = tag(
        "div", tag("span", "noise level", class_="label"), tag("svg", marks, aria_hidden="true"), class_="track axis"
    )
    return tag("div", lines, foot, class_="steps")


def _bands(axis: NoiseAxis, edges: Sequence[float]) -> list[Markup]:
    """Every second range shaded, with a line where one ends and the next begins."""
    bands = [
        tag("rect", class_="band", x=axis.percent(a), width=f"{axis.place(b) - axis.place(a):.2f}%", height="100%")
        for index, (a, b) in enumerate(pairwise(edges))
        if index % 2
    ]
    return bands + [
        tag("line", class_="edge", x1=axis.percent(edge), x2=axis.percent(edge), y1="0", y2="100%")
        for edge in edges[1:-1]
    ]


def _dots(axis: NoiseAxis, levels: Sequence[float]) -> list[Markup]:
    rail = tag("line", class_="rail", x1="2%", x2="98%", y1="50%", y2="50%")
    dots = (
        tag("circle", tag("title", f"noise level {level:.4g}"), class_="fill", cx=axis.percent(level), cy="50%", r=4.5)
        for level in levels
    )
    return [rail, *dots]


def _steps_text(name: str, levels: Sequence[float]) -> str:
    return f"{name}: {count_of(len(levels), 'step')} at noise levels {', '.join(f'{level:.3g}' for level in levels)}"


def heat_map(
    caption: str,
    rows: Sequence[tuple[str, Sequence[float]]],
    columns: Sequence[str],
    boundaries: Sequence[int] = (),
) -> Markup:
    """One line of cells per row, shaded by the share of the row's largest value; boundaries stand before a column."""
    body = [
        tag(
            "tr",
            tag("th", short_name(name), scope="row", title=name),
            tag("td", _cells(values, columns, boundaries)),
            tag("td", _ends(values), class_="ends"),
        )
        for name, values in rows
    ]
    ends = tag("div", tag("span", columns[0]), tag("span", columns[-1]), class_="ticks") if columns else None
    foot = tag("tfoot", tag("tr", tag("td"), tag("td", ends), tag("td", "least to largest", class_="ends")))
    return tag("table", tag("caption", caption), tag("tbody", body), foot, class_="heat")


def _ends(values: Sequence[float]) -> str:
    """The least and the largest value of a row, for those who cannot hover over its cells."""
    least, largest = min(values, default=0.0), max(values, default=0.0)
    return f"{least:.3g}" if least == largest else f"{least:.3g} to {largest:.3g}"


def _cells(values: Sequence[float], columns: Sequence[str], boundaries: Sequence[int]) -> Markup:
    largest = max((abs(value) for value in values), default=0.0)
    cells = [
        tag(
            "rect",
            tag("title", f"{columns[index]}: {value:.4g}"),
            class_=f"h{shade_of(abs(value), largest)}",
            x=index,
            width=1.02,  # a hair wider than its place, so that rounding leaves no gaps
            height=1,
        )
        for index, value in enumerate(values)
    ]
    lines = [tag("line", class_="edge", x1=at, x2=at, y1=0, y2=1) for at in boundaries if 0 < at < len(values)]
    described = f"between {min(values, default=0):.3g} and {max(values, default=0):.3g}"
    box = f"0 0 {max(len(values), 1)} 1"
    return tag("svg", cells, lines, viewBox=box, preserveAspectRatio="none", role="img", aria_label=described)


def shade_of(value: float, largest: float) -> int:
    """0 for nothing, SHADES - 1 for the largest."""
    return min(int(SHADES * value / largest), SHADES - 1) if largest > 0 else 0


def short_name(name: str) -> str:
    """The part of a tensor's or layer's name that tells it from others."""
    for prefix in ("denoise_fn.", "model.diffusion_model."):
        name = name.removeprefix(prefix)
    name = name.rsplit("/", 1)[0] if "/" in name else name
    return re.sub(r"\.res_block\b|(?<=block\d)\.block\.\d+$", "", name)
