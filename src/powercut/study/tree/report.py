"""The report of ``study tree``: the claim, and every failure of it, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from powercut.report.curves import Curve, curves
from powercut.report.page import Part, Plots, Section
from powercut.report.tables import NOTHING, TextRow, TextTable, number, percent
from powercut.study.findings import Findings, Record

SAYS = (
    "This is theory made exact, and no model is in it. A completion is a tree of T tokens of which k are decisions; "
    "every figure is computed from the whole transition matrix of one Metropolis-Hastings step, and none is estimated. "
    "The paper's claim, that entropy cuts mix in a number of steps that grows with the decisions and not with the "
    "tokens, holds here under four conditions: the first decision comes early, no completion weighs much more under "
    "the target than under the proposal (M is bounded), details are quiet beside decisions, and the first decision's "
    "jump is comparable to the others'. Without any one of them it fails, and uniform cuts can be the faster ones. It "
    "shows what can happen and why, not how often it does on a language model: for that, measure one with study "
    "anchors, decisions and mixing."
)

_Names = Sequence[tuple[str, Callable[[Record], Any]]]
"""Columns that name a case: their heads and their values."""

_K: _Names = [("k", lambda r: r["k"])]
_T: _Names = [("T", lambda r: f"{r['tokens']:,}")]
_FIRST: _Names = [("first decision at", lambda r: _first(r))]
_TARGET: _Names = [("target", lambda r: r["target"])]
_LAYOUT: _Names = [("layout", lambda r: r["layout"])]
_DETAILS: _Names = [("details, nats", lambda r: f"{r['details']:g}")]
_BLOCKS: _Names = [("stages × steps", lambda r: f"{r['blocks']} × {r['steps']}" if r["blocks"] else NOTHING)]
_CASE = [*_TARGET, *_LAYOUT, *_K, *_T, *_DETAILS]

_BOUNDED = "Steps until the worst start is within 0.25 of the target in total variation [lower bound, upper bound]"


def law_name(law: str) -> str:
    """A cut law's name in tables."""
    beta, _, mix = law.partition("+")
    return law if law == "uniform" else f"β {beta}" + (f" + {mix} uniform" if mix else "")


def _hue(law: str) -> int:
    """The number of a cut law's colour."""
    return 5 if law == "uniform" else 4 if "+" in law else 3 if float(law) < 2 else 2


def findings(records: Sequence[Record]) -> Findings:
    """All of it from the records, in the order in which they were planned."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record["section"], []).append(record)
    sections = list(_grid(found["grid"])) if "grid" in found else list(_report(found))
    chains = [r for name, part in found.items() if name not in ("early-answer", "stages") for r in part]
    names: _Names = [("part", lambda r: r["section"]), *_CASE]
    rows = [{name: value for name, value in record.items() if name != "key"} for record in _flat(records)]
    return Findings("The reasoning tree", SAYS, _by_law(chains, names, _steps), sections, rows)


def _report(found: dict[str, list[Record]]) -> Iterator[Section]:
    claim, pivot = found["claim"], found["root-pivot"]
    yield Section(
        "The claim: decisions, not tokens",
        [
            Part(f"Even, independent decisions, each at the start of its run. {_BOUNDED}.", _bounds(claim, [*_K, *_T])),
            Part(
                "A root pivot: at the first decision the likelier branch is the worse one. k = 4. The number of "
                "tokens does not matter to entropy cuts, and uniform cuts need in proportion to it.",
                _bounds(pivot, _T),
                lambda: _drawn(pivot, lambda r: r["tokens"], "T, tokens", log="xy"),
            ),
            Part(
                "What a step costs at equilibrium, root pivot, T = 256. Acceptance says nothing about mixing: where "
                "nearly all is accepted, nearly nothing of the first decision changes.",
                _cost([r for r in pivot if r["tokens"] == 256]),
            ),
        ],
    )
    yield Section(
        "First condition: the first decision comes early",
        [
            Part(
                "The root pivot with its first decision at a later token; T = 256, k = 4. Uniform cuts mix in T / (d₁ "
                f"+ 1) steps, d₁ its position, and overtake entropy cuts. {_BOUNDED}; the plot's bands are the bounds.",
                _bounds(found["placement"], [*_LAYOUT, *_FIRST]),
                lambda: _drawn(
                    [r for r in found["placement"] if r["layout"].isdecimal()],
                    lambda r: _first(r) + 1,
                    "d₁ + 1",
                    log="xy",
                    band=True,
                ),
            )
        ],
    )
    yield Section(
        "Second condition: no completion weighs far more than it is proposed",
        [
            Part(
                "M is the most that a leaf weighs under the target over what the proposal gives it. Where every "
                "decision is a pivot it grows exponentially with k, and so do the steps, by either law.",
                _by_law(found["weights"], [*_TARGET, *_K, ("M", lambda r: number(r["worst_weight"]))], _steps),
                lambda: _drawn(
                    [r for r in found["weights"] if r["target"] == "all-pivot"],
                    lambda r: r["k"],
                    "k, decisions (all pivots)",
                    log="y",
                ),
            )
        ],
    )
    yield Section(
        "Third condition: details are quiet",
        [
            Part(
                "The root pivot, k = 4, with a detail of 0.5 nats at every fourth token. Each takes some of the cuts.",
                _bounds(found["details"], [*_T, *_DETAILS]),
                lambda: _drawn(found["details"], lambda r: r["tokens"], "T, tokens", log="xy"),
            ),
            Part(
                "Decisions and whole texts: independent decisions, k = 4, T = 64, with details of 0.1 nats. Entropy "
                "cuts seldom re-open so small a jump; a text whose details come before the first decision (closing) "
                "stays long where it is. A mixture with uniform cuts is the remedy. In each cell: steps for the "
                "decisions / steps for the whole text.",
                _by_law(found["whole-text"], _LAYOUT, lambda r: f"{_steps(r)} / {_whole(r['whole_text_mixing_time'])}"),
            ),
        ],
    )
    yield Section(
        "Fourth condition: the first decision jumps as the others do",
        [
            Part(
                "Independent decisions, k = 4, T = 256; the timid root is one of .95 to .05, whose entropy is small. A "
                "large β passes over it.",
                _bounds(found["jumps"], _TARGET),
            )
        ],
    )
    yield Section("Stages", [_stages(found["stages"])])
    yield Section(
        "Early answers",
        [
            Part(
                "A tree whose first token answers at once or works it out, T = 10. The published step caps a proposal "
                "at the current length, so a chain that got short stays short; a schedule that stops at a finished "
                "completion keeps what came first. Distance to the target in total variation; shares of short texts, "
                "and of texts that are cut off.",
                _early([way for record in found["early-answer"] for way in record["ways"]]),
            )
        ],
    )


def _grid(records: list[Record]) -> Iterator[Section]:
    parts = [Part(f"{_BOUNDED}.", _bounds(records, _CASE)), Part("At equilibrium.", _cost(records, _CASE))]
    if staged := [record for record in records if record["blocks"]]:
        parts.append(_stages(staged, _CASE))
    yield Section("The cases", parts)


def _stages(records: list[Record], names: _Names = _TARGET) -> Part:
    drawn = None
    if names is _TARGET:

        def drawn() -> Plots:
            return _stage_plot(records)

    return Part(
        "Distance to the target in total variation of what a staged schedule returns, from a low-temperature start. "
        "Stages help where consequences show early, and hurt where they show late: a stage that ends before them "
        "settles what it cannot judge.",
        _by_law(records, [*names, *_BLOCKS], lambda r: f"{r['staged_distance']:.3f}"),
        drawn,
    )


def _stage_plot(records: list[Record]) -> Plots:
    laws, targets = _values(records, "law"), _values(records, "target")
    lines = []
    for record_law in laws:
        for target in targets:
            own = [r for r in records if r["law"] == record_law and r["target"] == target]
            x, y = [r["blocks"] for r in own], [r["staged_distance"] for r in own]
            lines.append(Curve(x, y, colour=_hue(record_law), line=targets.index(target)))
    svg = curves(lines, "Distance over stages", "stages (160 steps in all)", "distance", log="x", y_from=0)
    signs = [f"{('──', '╌╌')[i]} {target}" for i, target in enumerate(targets)]
    return Plots([svg], {law_name(law): _hue(law) for law in laws}, signs)


def _drawn(
    records: Sequence[Record], x: Callable[[Record], float], x_label: str, *, log: str, band: bool = False
) -> Plots:
    """Mixing time over ``x``, a curve a law."""
    laws, lines = _values(records, "law"), []
    for law in laws:
        own = [record for record in records if record["law"] == law]
        low, high = ([float(r[name]) for r in own] for name in ("lower_bound", "upper_bound"))
        y = [float(record["mixing_time"]) for record in own]
        lines.append(Curve([x(r) for r in own], y, low if band else None, high if band else None, colour=_hue(law)))
    svg = curves(lines, f"Mixing time over {x_label}", x_label, "steps to mix", log=log)
    return Plots([svg], {law_name(law): _hue(law) for law in laws})


def _by_law(records: Sequence[Record], names: _Names, show: Callable[[Record], str]) -> TextTable:
    """A row a case, a column a law."""
    laws = _values(records, "law")
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for record in records:
        rows.setdefault(tuple(str(value(record)) for _, value in names), {})[record["law"]] = show(record)
    head = [*(name for name, _ in names), *map(law_name, laws)]
    fields = [[*case, *(found.get(law, NOTHING) for law in laws)] for case, found in rows.items()]
    return TextTable(head, [TextRow(each) for each in fields], len(names))


def _bounds(records: Sequence[Record], names: _Names) -> TextTable:
    return _by_law(
        records, names, lambda r: f"{_steps(r)} [{number(float(r['lower_bound']))}, {_whole(r['upper_bound'])}]"
    )


def _cost(records: Sequence[Record], names: _Names = ()) -> TextTable:
    head = ["cut law", "tokens a step", "relaxation time, steps", "tokens a relaxation time", "acceptance, %"]
    head = [*(name for name, _ in names), *head, "text changed, %", "first decision changed, %", "M"]
    rows = []
    for r in records:
        figures = [number(r[name]) for name in ("tokens_per_step", "relaxation_time", "tokens_per_relaxation")]
        shares = [percent(r["acceptance"]), percent(r["changed"]), f"{100 * r['changed_first']:.3f}"]
        case = [str(value(r)) for _, value in names]
        rows.append(TextRow([*case, law_name(r["law"]), *figures, *shares, number(r["worst_weight"])]))
    return TextTable(head, rows, len(names) + 1)


def _early(ways: Sequence[Record]) -> TextTable:
    rows = [
        TextRow([way["what"], f"{way['distance']:.4f}", percent(way["short"]), percent(way["cut_off"])]) for way in ways
    ]
    return TextTable(["way of sampling", "distance", "short, %", "cut off, %"], rows)


def _flat(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        head = {name: value for name, value in record.items() if name != "ways"}
        for way in record.get("ways", [{}]):
            yield head | way


def _first(record: Record) -> int:
    """Where the first decision stands."""
    run = record["tokens"] // record["k"]
    at = {"opening": 0, "early": 0, "closing": run - 1, "late": record["tokens"] - record["k"]}
    return at[record["layout"]] if record["layout"] in at else int(record["layout"])


def _steps(record: Record) -> str:
    return _whole(record["mixing_time"])


def _whole(value: Any) -> str:
    """A count of steps; JSON has infinity as a text."""
    return f"{float(value):,.0f}" if math.isfinite(float(value)) else "∞"


def _values(records: Sequence[Record], name: str) -> list[Any]:
    return list(dict.fromkeys(record[name] for record in records))
