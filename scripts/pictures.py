"""Draw the pictures of docs/how-it-works.md.

python scripts/pictures.py [FOLDER]        (docs/pictures if not said)

Every figure in them is exact: the laws and chains of ``powercut study tree``. Each picture is one SVG file, light or
dark as the reader's system is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import powercut.report
from powercut.report.drawing import GRID, HUES, INK, STYLE, draw_svg, log_x, log_y
from powercut.study.tree.cases import LAWS, Case, parse_law
from powercut.study.tree.leaves import Leaves
from powercut.study.tree.report import law_name
from powercut.study.tree.trees import make_tree

FOLDER = Path(__file__).parents[1] / "docs/pictures"
ALPHA = 4.0
LAW_HUES = {"4": HUES[2], "1": HUES[3], "uniform": HUES[5]}

Point = tuple[float, float]


def figure_of(draw: Callable[[Figure], None], size: Point, title: str) -> str:
    """What ``draw`` draws, as an SVG file that brings its own colours."""
    with mpl.rc_context({**STYLE, "font.family": "sans-serif"}):
        figure = Figure(figsize=size)
        draw(figure)
        svg = draw_svg(figure, title)
    page = Path(powercut.report.__file__).with_name("templates").joinpath("page.html").read_text()
    colours = re.findall(r":root \{(.*?)\}", page, re.DOTALL)  # light, dark: those of every page of powercut
    style = f":root{{{colours[0]}}}@media (prefers-color-scheme:dark){{:root{{{colours[1]}}}}}text{{fill:var(--ink)}}"
    return re.sub(r"(<svg [^>]*>)", lambda tag: f"{tag[0]}<style>{' '.join(style.split())}</style>", svg, count=1)


def tree(figure: Figure) -> None:
    """Three decisions: each leaf's mass under p, under each token at temperature 1/alpha, and under p^alpha."""
    leaves = Leaves(make_tree("root-pivot", 3, 48), ALPHA)
    mass = np.kron((0.6, 0.4), np.full(4, 0.25))
    panels = (("the model, p", mass), ("each token sharpened", leaves.q), ("the power distribution, p⁴", leaves.pi))
    for axes, (name, law) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.set_axis_off()
        axes.set_xlim(-0.2, 3.9)
        axes.set_ylim(7.7, -1.6)
        axes.text(-0.2, -1.1, name, weight="bold")
        branches(axes, law, depth=0, first=0, size=8)
        for row, share in enumerate(law):
            axes.text(3.12, row, f"{share:.0%}" if share >= 0.005 else "<1%", va="center", fontsize=8.5)


def branches(axes: Axes, law: np.ndarray, depth: int, first: int, size: int) -> None:
    """The part of a tree below one of its nodes, a branch as thick as its mass."""
    if size == 1:
        return
    middle, half = first + (size - 1) / 2, size // 2
    for start in (first, first + half):
        share = float(law[start : start + half].sum())
        hue = HUES[5] if start < 4 else HUES[2]
        x, y = (depth, depth + 0.35, depth + 1), (middle, start + (half - 1) / 2, start + (half - 1) / 2)
        axes.plot(x, y, color=hue, linewidth=0.6 + 9 * share, solid_capstyle="round", alpha=0.9)
        branches(axes, law, depth + 1, start, half)


def cuts(figure: Figure) -> None:
    """One completion of the root pivot: its entropies, and where each law cuts it."""
    built = make_tree("root-pivot", 4, 64, details=0.1)
    entropy = Leaves(built, ALPHA).entropy[0]
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
    places = np.arange(len(entropy))
    above.vlines(places, 0, entropy, color=INK, linewidth=1.6)
    above.set_ylabel("entropy, nats")
    for mark in built.decisions:
        above.annotate("decision", (mark, entropy[mark]), (2, 3), textcoords="offset points", fontsize=8)
    above.set_ylim(0, 0.85)
    for shift, law in zip((-0.3, 0, 0.3), LAWS, strict=True):
        below.vlines(places + shift, 0, parse_law(law).probs(entropy), color=LAW_HUES[law], linewidth=1.9)
        below.plot([], [], color=LAW_HUES[law], label=law_name(law))
    below.legend(frameon=False, fontsize=8.5, loc="upper right", bbox_to_anchor=(1, 1.02))
    below.set_ylabel("chance of a cut")
    below.set_xlabel("token")


def steps_of(
    cases: Callable[[str], Sequence[Case]], x: Callable[[Case], float], label: str
) -> Callable[[Figure], None]:
    """Steps to mix over something, a curve for each cut law, named at its end."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = []
        for law in LAWS:
            some = cases(law)
            values = [x(case) for case in some]
            steps = [float(case.measure()["mixing_time"]) for case in some]
            axes.plot(values, steps, "o-", color=LAW_HUES[law], markersize=3.5)
            end: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "annotation_clip": False}
            axes.annotate(law_name(law), (values[-1], steps[-1]), color=LAW_HUES[law], va="center", **end)
        log_y(axes)
        log_x(axes, values)
        axes.set_xlabel(label)
        axes.set_ylabel("steps to mix")
        axes.grid(color=GRID)

    return draw


def longer(law: str) -> list[Case]:
    """The root pivot in longer and longer completions."""
    return [Case(section="", target="root-pivot", tokens=tokens, law=law) for tokens in (64, 256, 1024)]


def later(law: str) -> list[Case]:
    """The root pivot with its first decision at later and later tokens."""
    places = (0, 1, 3, 7, 15, 31, 63, 127, 191)
    return [Case(section="", target="root-pivot", layout=str(first), law=law) for first in places]


PICTURES: dict[str, tuple[Callable[[Figure], None], Point, str]] = {
    "tree": (tree, (7.6, 2.5), "A tree of three decisions: the share of each leaf under three laws"),
    "cuts": (cuts, (7.6, 3.6), "Entropies of one completion, and the chance of a cut at each token, by three cut laws"),
    "longer": (
        steps_of(longer, lambda case: case.tokens, "T, tokens of a completion"),
        (4.4, 2.9),
        "Steps to mix over the length of a completion: level for entropy cuts, growing for uniform ones",
    ),
    "later": (
        steps_of(later, lambda case: int(case.layout) + 1, "place of the first decision"),
        (4.4, 2.9),
        "Steps to mix over the place of the first decision: uniform cuts overtake entropy cuts",
    ),
}


def main(arguments: Sequence[str]) -> None:
    """Write every picture."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, (draw, size, title) in PICTURES.items():
        (folder / f"{name}.svg").write_text(figure_of(draw, size, title))
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
