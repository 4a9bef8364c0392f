"""What the numbers mean: medians, ratios, bars, tables. Pure."""

from __future__ import annotations

import dataclasses
import re
import statistics
from typing import Optional

BEGIN = "<!-- compare: begin -->"
END = "<!-- compare: end -->"


@dataclasses.dataclass(frozen=True)
class Bar:
    """What a measure must reach: `kind` is "at most" or "at least"."""

    kind: str
    value: float
    of: str  # of what the reference is: "x the peer's"; or a unit, if there is no reference

    def met(self, value: float) -> bool:
        """Whether `value`, a ratio or a number in the bar's unit, is good enough."""
        return value <= self.value if self.kind == "at most" else value >= self.value

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g} {self.of}"


@dataclasses.dataclass(frozen=True)
class Measure:
    """A line of the table: the sample `ours`, against the sample `reference` or, without one, against the bar itself."""

    name: str
    title: str
    ours: str
    reference: Optional[str]
    bar: Bar


@dataclasses.dataclass
class Samples:
    """What the rounds gave: for each sample the values in its unit, or why there are none."""

    unit: str
    values: list[float] = dataclasses.field(default_factory=list)
    missing: str = ""

    @property
    def median(self) -> Optional[float]:
        """None: there are no values."""
        return statistics.median(self.values) if self.values else None


@dataclasses.dataclass(frozen=True)
class Line:
    """A measure with what came out."""

    measure: Measure
    ours: str
    reference: str
    ratio: Optional[float]
    met: Optional[bool]  # None: it was not measured

    def cells(self) -> list[str]:
        """As the table shows it."""
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        met = {None: "not measured", True: "yes", False: "**no**"}[self.met]
        return [self.measure.title, self.ours, self.reference, ratio, str(self.measure.bar), met]


HEADING = ["measure", "ours", "peer or floor", "ratio", "bar", "met"]


def line(measure: Measure, samples: dict[str, Samples]) -> Line:
    """Judges one measure. The ratio is that of the medians."""
    ours = samples[measure.ours]
    if measure.reference is None:
        value = ours.median
        return Line(measure, show(ours), "", None, None if value is None else measure.bar.met(value))
    reference = samples[measure.reference]
    if ours.median is None or not reference.median:
        return Line(measure, show(ours), show(reference), None, None)
    ratio = ours.median / reference.median
    return Line(measure, show(ours), show(reference), ratio, measure.bar.met(ratio))


def show(samples: Samples) -> str:
    """The median with its unit and, of several rounds, the least and the largest value."""
    if samples.median is None:
        return f"not available: {samples.missing or 'not asked for'}"
    text = f"{number(samples.median)} {samples.unit}"
    if len(samples.values) > 1:
        text += f" ({number(min(samples.values))} to {number(max(samples.values))})"
    return text


def number(value: float) -> str:
    """Three digits, more only of large numbers: `0.123`, `12.3`, `1234`, `12 345`."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ") if abs(value) >= 10_000 else f"{value:.0f}"
    return f"{value:.3g}"


def text_table(rows: list[list[str]]) -> str:
    """Rows of cells with aligned columns; the first one is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def markdown_table(rows: list[list[str]]) -> str:
    """The same in Markdown."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return "\n".join(
        f"| {text} |" for text in [lines[0], "|".join("---" for _ in rows[0]).replace("|", " | "), *lines[1:]]
    )


def replace_marked(document: str, text: str) -> str:
    """The document with `text` between the markers.

    Raises:
        ValueError: It does not have both markers, once.
    """
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"there must be one {BEGIN} and, after it, one {END}")
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    return re.sub(pattern, lambda _: f"{BEGIN}\n\n{text.strip()}\n\n{END}", document, flags=re.S)
