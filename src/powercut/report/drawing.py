"""How every plot is drawn: SVG that stands in a page. Text is text, and every colour is a variable of its style."""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = 8
"""Colours of a page, its variables --s0 to --s7; what comes after these shares them."""

INK, GRID, HUES = "#fe0001", "#fe0002", [f"#fe001{i}" for i in range(COLOURS)]
"""Placeholders that matplotlib draws with; in the page they are variables, so that it can be light or dark."""
_VARIABLES = {INK: "--ink", GRID: "--grid", **{hue: f"--s{i}" for i, hue in enumerate(HUES)}}

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "powercut",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "figure.constrained_layout.use": True,
}


def log_x(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 times the powers of ten, enough of them and not too many."""
    low, high = min(values) / 1.4, max(values) * 1.4
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = _log_ticks(low, high)
    axes.set_xticks(ticks, list(map(_show_tick, ticks)))
    axes.minorticks_off()


def log_y(axes: Axes) -> None:
    """Such a vertical axis, for what has been drawn."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = _log_ticks(low, high)
    axes.set_yticks(ticks, list(map(_show_tick, ticks)))
    axes.set_ylim(low, high)
    axes.minorticks_off()


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]


def _show_tick(tick: float) -> str:
    return f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"


def draw_svg(figure: Figure, title: str) -> str:
    """Draw it with the placeholders' variables in their place."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts draw the text
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = in_tags(svg, re.compile("|".join(_VARIABLES)), lambda found: f"var({_VARIABLES[found[0]]})")
    title = html.escape(title).replace("(#", "(&#35;")  # not what page.py takes for a reference
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def in_tags(svg: str, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> str:
    """``svg`` with the pattern replaced inside tags: texts may hold anything, and stay as they are."""
    return re.sub(r"<[^>]*>", lambda tag: pattern.sub(replace, tag[0]), svg)
