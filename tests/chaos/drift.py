"""Whether a series of samples drifts: its slope an hour, robustly, and a verdict against a bound; and a plot of it."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import statistics
from collections.abc import Sequence

# Points that a slope is made of: the pairs are as many as its square.
POINTS = 300


@dataclasses.dataclass(frozen=True)
class Bound:
    """How much a quantity may grow from the first third of a run to its last: the sum of these."""

    unit: str
    absolute: float = 0.0
    relative: float = 0.0
    an_hour: float = 0.0


@dataclasses.dataclass(frozen=True)
class Drift:
    """Of one series."""

    first: float  # median of the first third
    last: float  # median of the last third
    slope: float  # an hour
    allowed: float  # growth
    holds: bool


def thinned(values: Sequence[float]) -> list[float]:
    """At most POINTS of them, evenly."""
    step = max(1, -(-len(values) // POINTS))
    return list(values[::step])


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's: the median of the slopes of all pairs, in units of `values` an hour."""
    points = list(zip(thinned(times), thinned(values)))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] > a[0]]
    return statistics.median(slopes) * 3600 if slopes else 0.0


def of(times: Sequence[float], values: Sequence[float], bound: Bound) -> Drift:
    """The drift of a series with at least three values; times are in seconds."""
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    # Between the middles of the two thirds.
    hours = (times[-1] - times[0]) * 2 / 3 / 3600
    allowed = bound.absolute + bound.relative * abs(first) + bound.an_hour * hours
    return Drift(first, last, slope(times, values), allowed, last - first <= allowed)


def plot(
    times: Sequence[float],
    panels: dict[str, dict[str, Sequence[float]]],
    marks: Sequence[tuple[float, str]],
    warm: float,
    path: pathlib.Path,
) -> None:
    """Draws series over time, one panel for each group of them.

    Args:
        times: Seconds since the start.
        panels: By title, which has the unit; then by the name of the series.
        marks: When something was done, and what.
        warm: When warming up ended.
        path: Of the PNG.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib  # type: ignore[import-not-found,unused-ignore]

    matplotlib.use("Agg")
    from matplotlib import pyplot  # type: ignore[import-not-found,unused-ignore]

    minutes = [time / 60 for time in times]
    figure, rows = pyplot.subplots(len(panels), 1, figsize=(11, 2.4 * len(panels)), sharex=True)
    for axes, (title, series) in zip(rows, panels.items()):
        for name, values in series.items():
            axes.plot(minutes, values, label=name, linewidth=1)
        axes.axvspan(0, warm / 60, color="0.93")
        for mark, _ in marks:
            axes.axvline(mark / 60, color="0.85", linewidth=0.5, zorder=0)
        axes.set_ylim(bottom=0)
        axes.set_title(title, loc="left", fontsize=9)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    rows[-1].set_xlabel("minutes; grey: warming up; lines: what was done to it")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
