"""Curves: one figure over another, with bands for intervals or bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from powercut.report.drawing import COLOURS, HUES, STYLE, draw_svg, log_x, log_y

_LINES = ("-", "--", ":", "-.")
_MOST_MARKED = 16
"""Points of a curve, up to which each has a marker."""
_MOST_TICKS, _LONGEST_TICK = 9, 6
"""Places on the axis of x, up to which each has a tick, if it can be said in so many characters."""


@dataclass(frozen=True)
class Curve:
    """Points ``(x, y)``; ``low`` and ``high`` are the ends of a band. ``colour`` and ``line`` number its looks."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    line: int = 0


def curves(
    several: Sequence[Curve],
    title: str,
    x_label: str,
    y_label: str,
    *,
    log: str = "",
    size: tuple[float, float] = (4.8, 2.9),
    y_from: float | None = None,
) -> str:
    """Curves as SVG; ``log`` names the axes, of x and y, that are logarithmic. Infinite points are left out."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        axes = figure.add_subplot()
        for curve in several:
            x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
            hue = HUES[curve.colour % COLOURS]
            kept = np.isfinite(y)
            marker = "o" if len(x) <= _MOST_MARKED else ""
            axes.plot(x[kept], y[kept], _LINES[curve.line % len(_LINES)], marker=marker, markersize=3.5, color=hue)
            if curve.low is not None and curve.high is not None:
                low, high = np.asarray(curve.low)[kept], np.asarray(curve.high)[kept]
                axes.fill_between(x[kept], low, high, color=hue, alpha=0.18, linewidth=0)
        if "y" in log:
            log_y(axes)
        elif y_from is not None:
            top = float(axes.dataLim.ymax)  # -inf where nothing is drawn
            axes.set_ylim(y_from, top + 0.05 * (top - y_from) if y_from < top < np.inf else None)
        if "x" in log:
            log_x(axes, [x for curve in several for x in curve.x])
        ticks = {x: f"{x:,g}" for x in sorted({x for curve in several for x in curve.x})}
        if len(ticks) <= _MOST_TICKS and all(len(tick) <= _LONGEST_TICK for tick in ticks.values()):
            axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        return draw_svg(figure, title)
