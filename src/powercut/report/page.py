"""Tables and plots as one HTML page that needs nothing else, in light or dark as the reader's system has it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from powercut.report.drawing import COLOURS, in_tags
from powercut.report.tables import TextTable

_ID = re.compile(r'(?:\bid="|href="#|url\(#)')


@dataclass(frozen=True)
class Plots:
    """Plots as SVG, and the key to them: what has which colour, by its number, and what other signs mean."""

    plots: Sequence[str]
    colours: Mapping[str, int] = field(default_factory=dict)
    signs: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """A table with what is said of it; ``draw`` makes the plots beside it, whose figures are those of the table.

    ``link`` is an address beside the page, and what there is to see.
    """

    caption: str
    table: TextTable
    draw: Callable[[], Plots] | None = None
    link: tuple[str, str] | None = None


@dataclass(frozen=True)
class Section:
    """Parts under one title."""

    title: str
    parts: list[Part]


def html(
    sections: Sequence[Section],
    title: str,
    about: str,
    *,
    says: str = "",
    notes: Sequence[str] = (),
    footer: str = "",
) -> str:
    """The page: under the title what it is ``about``, what it ``says`` as a whole, notes, sections, a footer."""
    environment = Environment(loader=PackageLoader("powercut.report"), autoescape=True, trim_blocks=True)
    count = 0

    def draw(part: Part) -> Plots:
        nonlocal count
        drawn = part.draw() if part.draw else Plots([])
        plots = []
        for svg in drawn.plots:
            count += 1
            plots.append(Markup(_own_ids(svg, f"plot{count}-")))  # drawn here, its texts escaped
        return Plots(plots, drawn.colours, drawn.signs)

    return environment.get_template("page.html").render(
        title=title, about=about, says=says, notes=notes, sections=sections, draw=draw, colours=COLOURS, footer=footer
    )


def _own_ids(svg: str, prefix: str) -> str:
    """Names that no other plot of the page has."""
    return in_tags(svg, _ID, lambda found: found[0] + prefix)
