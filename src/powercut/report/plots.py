"""The plots of a report on runs, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from powercut.report.drawing import COLOURS, HUES, INK, STYLE, draw_svg, log_x
from powercut.report.labels import show_value, symbol
from powercut.report.summary import Ablation, Entry, Summary
from powercut.report.tables import percent

_MARKERS, _LINES = "osD^vP", ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Looks:
    """How each sampler and each model is drawn, everywhere in a report."""

    samplers: list[str]
    models: list[str]

    @classmethod
    def of(cls, summary: Summary) -> Looks:
        """In the order in which the report names them."""
        entries = [entry for group in summary.tasks.values() for entry in group]
        return cls(list(dict.fromkeys(entry.facts.sampler for entry in entries)), summary.models)

    def hue(self, entry: Entry) -> int:
        """The number of the sampler's colour."""
        return self.samplers.index(entry.facts.sampler) % COLOURS

    def colour(self, entry: Entry) -> str:
        """The sampler's colour, as matplotlib is given it."""
        return HUES[self.hue(entry)]

    def marker(self, model: str) -> str:
        """The model's marker, as matplotlib is given it."""
        return _MARKERS[self.models.index(model) % len(_MARKERS)]

    def sign(self, model: str) -> str:
        """The model's marker and line as characters, for a key in text."""
        at = self.models.index(model)
        return f"{'●■◆▼▲✚'[at % len(_MARKERS)]} {('──', '╌╌', '··', '–·')[at % len(_LINES)]}"

    def line(self, model: str) -> str:
        """The model's line style, as matplotlib is given it."""
        return _LINES[self.models.index(model) % len(_LINES)]


def accuracy_bars(entries: Sequence[Entry], looks: Looks) -> str:
    """Accuracy of every sampler with its interval; models one below the other."""
    several = len({entry.model for entry in entries}) > 1
    places, heads, at, last = [], [], 0.0, None
    for entry in entries:
        if several and entry.model != last:
            at += 0.35 if last else 0
            heads.append((at, entry.model))
            at, last = at + 1, entry.model
        places.append(at)
        at += 1
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 + 0.07 * max(len(entry.label) for entry in entries), 0.62 + 0.27 * at))
        axes = figure.add_subplot()
        values = [100 * entry.accuracy.value for entry in entries]
        colours = [(looks.colour(entry), 0.85 * alpha) for entry, alpha in _faded(entries)]
        axes.barh(places, values, height=0.68, color=colours)
        axes.errorbar(values, places, xerr=_whiskers(entries), fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
        axes.set_yticks(places, [entry.label for entry in entries])
        for place, model in heads:
            name = model if len(model) < 40 else f"{model[:38]}…"
            axes.text(0, place, f" {name}", fontweight="bold", va="center", in_layout=False)
        for place, entry in zip(places, entries, strict=True):
            text = percent(entry.accuracy.value)
            end = (100 * entry.accuracy.high, place)
            axes.annotate(text, end, (5, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.set_ylim(at - 0.4, -0.6)
        axes.set_xlim(0, min(108, max(20.0, *(112 * entry.accuracy.high for entry in entries))))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("accuracy, %")
        return draw_svg(figure, "Accuracy with 95% intervals")


def pass_at_curves(entries: Sequence[Entry], looks: Looks) -> str | None:
    """pass@k over k; None with one completion a problem."""
    most = max(len(entry.pass_at) for entry in entries)
    if most < 2:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.05, 2.6))
        axes = figure.add_subplot()
        for entry, alpha in _faded(entries):
            ks = range(1, len(entry.pass_at) + 1)
            line, few = looks.line(entry.model), looks.marker(entry.model) if most <= 8 else ""
            shares = [100 * share.value for share in entry.pass_at]
            axes.plot(ks, shares, line, marker=few, markersize=3.5, color=looks.colour(entry), alpha=alpha)
        axes.set_xscale("log", base=2)
        ticks = [2**i for i in range(most.bit_length())]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        low, high = axes.get_ylim()
        if high - low < 4:  # all but equal: no axis of hundredths
            low = min(max(0.0, low - 2), 95.0)
            axes.set_ylim(low, min(100.0, max(low + 5, high + 2)))
        axes.set_xlabel("k, completions")
        axes.set_ylabel("pass@k, %")
        return draw_svg(figure, "pass@k")


def accuracy_against_cost(entries: Sequence[Entry], looks: Looks) -> str | None:
    """Accuracy over decoded tokens; None where no tokens were counted."""
    known = [(entry, alpha) for entry, alpha in _faded(entries) if entry.means["tokens_decoded"] > 0]
    if not known:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.05, 2.6))
        axes = figure.add_subplot()
        for entry, alpha in known:
            axes.errorbar(
                entry.means["tokens_decoded"],
                100 * entry.accuracy.value,
                yerr=_whiskers([entry]),
                fmt=looks.marker(entry.model),
                color=looks.colour(entry),
                elinewidth=1,
                alpha=alpha,
            )
        log_x(axes, [entry.means["tokens_decoded"] for entry, _ in known])
        axes.set_xlabel("decoded tokens")
        axes.set_ylabel("accuracy, %")
        return draw_svg(figure, "Accuracy against decoded tokens")


def ablation_plot(ablation: Ablation, looks: Looks) -> str:
    """Accuracy and decoded tokens over one setting."""
    entries = ablation.entries
    numeric = all(isinstance(value, int | float) and math.isfinite(value) for value in ablation.values)
    places: Sequence[Any] = ablation.values if numeric else range(len(entries))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.5))
        left, right = figure.subplots(1, 2)
        colour, marker = looks.colour(entries[0]), looks.marker(entries[0].model)
        shares = [100 * entry.accuracy.value for entry in entries]
        left.errorbar(places, shares, yerr=_whiskers(entries), fmt=f"{marker}-", color=colour, elinewidth=1)
        left.set_ylabel("accuracy, %")
        right.plot(places, [entry.means["tokens_decoded"] for entry in entries], f"{marker}-", color=colour)
        right.set_ylabel("decoded tokens")
        right.set_ylim(0, 1.08 * right.get_ylim()[1])
        right.yaxis.set_major_formatter("{x:,.0f}")
        for axes in (left, right):
            if numeric and min(places) > 0 and max(places) >= 4 * min(places):
                axes.set_xscale("log", base=2)
                axes.minorticks_off()
            axes.set_xticks(places, [show_value(value) for value in ablation.values])
            axes.set_xlabel(symbol(ablation.setting))
        return draw_svg(figure, f"Accuracy and decoded tokens over {symbol(ablation.setting)}")


def _faded(entries: Sequence[Entry]) -> Iterable[tuple[Entry, float]]:
    """Entries, and how opaque they are: variants of one sampler and model share a colour, the last one is full."""
    for entry in entries:
        alike = [other for other in entries if (other.model, other.facts.sampler) == (entry.model, entry.facts.sampler)]
        yield entry, 1 - 0.65 * (len(alike) - 1 - alike.index(entry)) / len(alike)


def _whiskers(entries: Sequence[Entry]) -> list[list[float]]:
    below = [100 * (entry.accuracy.value - entry.accuracy.low) for entry in entries]
    above = [100 * (entry.accuracy.high - entry.accuracy.value) for entry in entries]
    return [below, above]
