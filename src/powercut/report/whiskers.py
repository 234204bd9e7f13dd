"""Figures one below the other, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from powercut.report.drawing import COLOURS, HUES, INK, STYLE, draw_svg
from powercut.report.stats import Interval


@dataclass(frozen=True)
class Whisker:
    """A figure called ``name`` with its interval; ``colour`` numbers its looks."""

    name: str
    interval: Interval
    colour: int = 2


def whiskers(
    several: Sequence[Whisker], title: str, x_label: str, *, zero: bool = False, size: tuple[float, float] | None = None
) -> str:
    """The figures as SVG; ``zero`` draws a line at 0. What is not finite is left out."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size or (5.4, 0.75 + 0.3 * len(several)))
        axes = figure.add_subplot()
        if zero:
            axes.axvline(0, color=INK, linewidth=0.8)
        for place, each in enumerate(several):
            hue, (value, low, high) = HUES[each.colour % COLOURS], each.interval
            axes.plot([low, high], [place, place], "-", color=hue)
            axes.plot([value], [place], "o", color=hue)
        axes.set_yticks(range(len(several)), [each.name for each in several])
        axes.set_ylim(len(several) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(x_label)
        return draw_svg(figure, title)
