"""The report as one page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from powercut.report import plots
from powercut.report.sections import Part, Section
from powercut.report.summary import Ablation, Summary

_ID = re.compile(r'(?:\bid="|href="#|url\(#)')


def html(summary: Summary, sections: Sequence[Section], title: str, notes: Sequence[str]) -> str:
    """Tables and plots, in a light or a dark page as the reader's system has it."""
    looks = plots.Looks.of(summary)
    environment = Environment(loader=PackageLoader("powercut.report"), autoescape=True, trim_blocks=True)
    count = 0

    def draw(part: Part) -> list[Markup]:
        nonlocal count
        drawn = []
        for svg in _plots(part, looks):
            count += 1
            drawn.append(Markup(_own_ids(svg, f"plot{count}-")))  # drawn here, its texts escaped
        return drawn

    return environment.get_template("page.html").render(
        title=title,
        notes=notes,
        sections=sections,
        draw=draw,
        looks=looks,
        colours=plots.COLOURS,
        version=version("powercut"),
        completions=sum(entry.completions for group in summary.tasks.values() for entry in group),
    )


def _plots(part: Part, looks: plots.Looks) -> list[str]:
    if part.plot is None:
        return []
    if isinstance(part.plot, Ablation):
        return [plots.ablation_plot(part.plot, looks)]
    drawn = [
        draw(part.plot, looks) for draw in (plots.accuracy_bars, plots.pass_at_curves, plots.accuracy_against_cost)
    ]
    return [svg for svg in drawn if svg is not None]


def _own_ids(svg: str, prefix: str) -> str:
    """Names that no other plot of the page has."""
    return plots.in_tags(svg, _ID, lambda found: found[0] + prefix)
