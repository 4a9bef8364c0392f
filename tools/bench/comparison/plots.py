"""Draws the series of the scaling runs as PNG. Needs matplotlib (Debian: python3-matplotlib)."""

from __future__ import annotations

import pathlib
from typing import Any

from .samples import Plot


def draw(plot: Plot, found: dict[str, dict[int, float]], folder: pathlib.Path) -> pathlib.Path:
    """Writes one plot; `found` has the values of each series by x. Its path.

    Raises:
        ImportError: There is no matplotlib.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for series in plot.series:
        if points := found.get(series.name):
            xs = sorted(points)
            axes.plot(xs, [points[x] for x in xs], marker="o", markersize=4, label=series.label)
    style(axes, plot)
    path = folder / f"{plot.name}.png"
    figure.tight_layout()
    # No date and no version inside: the same numbers give the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path


def style(axes: Any, plot: Plot) -> None:
    """Axes: x in doublings or tens, y logarithmic where values differ much."""
    axes.set_xscale("log", base=10 if plot.xs[-1] >= 1000 else 2)
    if plot.xs[-1] < 1000:
        axes.set_xticks(plot.xs, [str(x) for x in plot.xs])
    if plot.name not in ("queue", "sessions"):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x)
    axes.set_ylabel(plot.y)
    axes.grid(True, which="major", alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
