"""The tables of a report, as texts. markdown.py, page.html and cli/report.py lay them out."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from powercut.records import RunFacts
from powercut.report.labels import show_value, symbol, traits
from powercut.report.stats import Interval
from powercut.report.summary import Ablation, Entry, Match, Summary, Test

NOTHING = "–"


@dataclass
class TextRow:
    """One line; ``bold`` holds the places of the best values, ``group`` is True for the first line of a group.

    ``link`` is an address beside the page to which the first field leads.
    """

    fields: list[str]
    bold: set[int] = field(default_factory=set)
    group: bool = False
    link: str | None = None


@dataclass
class TextTable:
    """``names`` counts the leading columns that hold names; numbers follow, and are set right."""

    head: list[str]
    rows: list[TextRow]
    names: int = 1


@dataclass(frozen=True)
class Column:
    """One figure of an entry: how to show it, and which end of it is best (0: neither)."""

    head: str
    value: Callable[[Entry], float]
    show: Callable[[Entry], str]
    best: int = 0


def percent(value: float) -> str:
    """A share as a percentage with one decimal."""
    return NOTHING if math.isnan(value) else f"{100 * value:.1f}"


def with_interval(interval: Interval) -> str:
    """A share with its interval, in percent."""
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def number(value: float) -> str:
    """A figure to three or so digits; from a thousand on, whole."""
    if math.isnan(value):
        return NOTHING
    if math.isinf(value) or abs(value) >= 1000:
        return f"{value:z,.0f}".replace("-", "−")
    return fixed(value, 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A figure to so many digits after the point; with a ``sign`` of "+" also a positive one has its own, 0 never."""
    return f"{value:{sign}z.{digits}f}".replace("-", "−").replace(f"+{0:.{digits}f}", f"{0:.{digits}f}")


def p_value(p: float) -> str:
    """A p-value as papers print it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _mean(head: str, name: str, best: int = 0, show: Callable[[float], str] = number) -> Column:
    return Column(head, lambda entry: entry.means[name], lambda entry: show(entry.means[name]), best)


ACCURACY = Column("accuracy, %", lambda entry: entry.accuracy.value, lambda entry: with_interval(entry.accuracy), 1)

COLUMNS = (
    ACCURACY,
    Column("s.d. over seeds", lambda entry: entry.spread, lambda entry: percent(entry.spread)),
    _mean("log p", "logp", 1),
    _mean("entropy", "entropy"),
    _mean("acceptance, %", "acceptance", show=percent),
    _mean("changed, %", "changed", show=percent),
    _mean("null steps", "null_steps"),
    _mean("tokens", "tokens"),
    _mean("decoded tokens", "tokens_decoded", -1),
    _mean("seconds", "seconds", -1),
    _mean("finished, %", "finished", 1, percent),
    _mean("with what is required, %", "satisfied", 1, percent),
    Column("log Z", lambda entry: entry.means["log_z"], lambda entry: number(entry.means["log_z"])),
    Column("errors", lambda entry: entry.errors, lambda entry: f"{entry.errors:,}"),
    Column("n", lambda entry: entry.completions, lambda entry: f"{entry.problems:,}×{_draws(entry)}"),
)

_MAIN = ("decoded tokens", "seconds", "errors", "acceptance, %", "changed, %", "finished, %", "n")
_LAST = Column("pass@n", lambda entry: entry.pass_at[-1].value, lambda entry: percent(entry.pass_at[-1].value))


def task_table(entries: Sequence[Entry]) -> TextTable:
    """Every sampler on one task: all figures, less those that no sampler has."""
    shown = [column for column in COLUMNS if not all(math.isnan(column.value(entry)) for entry in entries)]
    return _table(entries, shown)


def main_table(summary: Summary) -> TextTable:
    """The figures that matter most, of every task, the most important ones first: for a terminal."""
    named = {column.head: column for column in COLUMNS}
    figures = [ACCURACY, _LAST, *(named[head] for head in _MAIN)]
    rows = []
    for task, entries in summary.tasks.items():
        for entry in entries:
            bold = {3 + at for at, column in enumerate(figures) if _is_best(entry, column, entries)}
            rows.append(TextRow([entry.model, task, entry.label, *(column.show(entry) for column in figures)], bold))
    rows.sort(key=lambda row: summary.models.index(row.fields[0]))
    return _by_model(["task", "sampler", *(column.head for column in figures)], rows, names=2)


def pass_at_table(entries: Sequence[Entry]) -> TextTable | None:
    """pass@k at powers of two and at the end; None with one completion a problem."""
    most = max(len(entry.pass_at) for entry in entries)
    if most < 2:
        return None
    ks = sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
    return _table(entries, [_pass_at(k) for k in ks])


def overview(summary: Summary) -> TextTable:
    """Accuracy of every model and sampler on every task."""
    tasks = list(summary.tasks)
    found = {(entry.model, entry.label, task): entry for task in tasks for entry in summary.tasks[task]}
    samplers = list(dict.fromkeys(entry.facts.sampler for entry in found.values()))
    places = {(model, label): entry.facts.sampler for (model, label, _), entry in found.items()}
    rows = []
    for model, label in sorted(places, key=lambda at: (summary.models.index(at[0]), samplers.index(places[at]))):
        row = TextRow([model, label])
        for task in tasks:
            entry = found.get((model, label, task))
            if entry and _is_best(entry, ACCURACY, summary.tasks[task]):
                row.bold.add(len(row.fields))
            row.fields.append(with_interval(entry.accuracy) if entry else NOTHING)
        rows.append(row)
    return _by_model(["sampler", *tasks], rows, names=1)


def test_table(tests: Sequence[Test]) -> TextTable:
    """Differences in accuracy from the baselines, with p-values."""
    rows = []
    for test in tests:
        other = f", {test.baseline.model}" if test.baseline.model != test.entry.model else ""
        names = [test.entry.model, test.entry.label, test.baseline.label + other]
        figures = [difference(test.result.difference), f"{test.result.discordant:,} of {test.result.problems:,}"]
        tested = [p_value(p) for p in (test.result.p, test.adjusted, test.result.published_p)]
        fields = [*names, *figures, *tested]
        rows.append(TextRow(fields, {len(fields) - 2} if test.adjusted < 0.05 else set()))
    head = ["sampler", "against", "difference, points", "problems that differ", "p", "p, Holm", "p, as published"]
    return _by_model(head, rows, names=2)


def match_table(matches: Sequence[Match]) -> TextTable:
    """Best-of-n beside the sampler of the same cost."""
    rows = []
    for match in matches:
        cost = [entry.means["tokens_decoded"] for entry in (match.matched, match.entry)]
        names = [match.entry.model, match.matched.label, match.entry.label]
        shares = [with_interval(match.matched.accuracy), with_interval(match.entry.accuracy)]
        tested = [difference(match.result.difference), p_value(match.result.p)]
        better = match.entry.accuracy.value - match.matched.accuracy.value
        bold = {len(names) + (better > 0)} if better else set()
        rows.append(TextRow([*names, *shares, *tested, *map(number, cost), f"{match.ratio:.2f}"], bold))
    head = ["sampler", "beside it", "accuracy, %", "beside it, %", "difference, points", "p"]
    return _by_model([*head, "decoded tokens", "beside it", "compute ratio"], rows, names=2)


def ablation_table(ablation: Ablation) -> TextTable:
    """One setting's values, and what they change."""
    inner = task_table(ablation.entries)
    names = [show_value(value) for value in ablation.values]
    rows = [
        TextRow([name, *row.fields[inner.names :]], {at - inner.names + 1 for at in row.bold})
        for name, row in zip(names, inner.rows, strict=True)
    ]
    return TextTable([symbol(ablation.setting), *inner.head[inner.names :]], rows)


def difference(interval: Interval) -> str:
    """A difference of accuracies with its interval, in points."""
    value, low, high = (fixed(100 * end, 1, "+") for end in interval)
    return f"{value} [{low}, {high}]"


def _table(entries: Sequence[Entry], columns: Sequence[Column]) -> TextTable:
    rows = []
    for entry in entries:
        bold = {2 + at for at, column in enumerate(columns) if _is_best(entry, column, entries)}
        rows.append(TextRow([entry.model, entry.label, *(column.show(entry) for column in columns)], bold))
    return _by_model(["sampler", *(column.head for column in columns)], rows, names=1)


def _is_best(entry: Entry, column: Column, others: Sequence[Entry]) -> bool:
    """Whether no sampler of the same model shows better; nothing is best where all show the same."""
    if not column.best or math.isnan(column.value(entry)):
        return False
    rivals = [other for other in others if other.model == entry.model and not math.isnan(column.value(other))]
    best = max(column.value(other) * column.best for other in rivals)
    return len({column.show(other) for other in rivals}) > 1 and column.value(entry) * column.best >= best


def _by_model(head: list[str], rows: list[TextRow], *, names: int) -> TextTable:
    """Rows that begin with their model: it is named once, on its first line, and not at all if there is but one."""
    if len({row.fields[0] for row in rows}) == 1:
        return TextTable(head, [TextRow(row.fields[1:], {at - 1 for at in row.bold}) for row in rows], names)
    last = None
    for row in rows:
        row.group, last = row.fields[0] != last, row.fields[0]
        if not row.group:
            row.fields[0] = ""
    return TextTable(["model", *head], rows, names + 1)


def _pass_at(k: int) -> Column:
    def value(entry: Entry) -> float:
        return entry.pass_at[k - 1].value if k <= len(entry.pass_at) else math.nan

    return Column(f"pass@{k}", value, lambda entry: percent(value(entry)), 1)


def _draws(entry: Entry) -> str:
    per_problem = entry.completions / entry.problems
    return f"{per_problem:.0f}" if per_problem.is_integer() else f"{per_problem:.1f}"


def settings_table(summary: Summary) -> TextTable:
    """Every cell with its settings, and what else sets it apart: prompt style, data."""
    rows = []
    for task, group in summary.tasks.items():
        for entry in group:
            settings = ", ".join(f"{name} {show_value(value)}" for name, value in traits(entry.facts).items())
            rows.append(TextRow([entry.model, task, entry.label, settings]))
    rows.sort(key=lambda row: summary.models.index(row.fields[0]))
    return _by_model(["task", "sampler", "settings"], rows, names=3)


def runs_table(runs: Mapping[Path, RunFacts]) -> TextTable:
    """Where the results come from: what each run.json says."""
    rows = []
    for folder, facts in runs.items():
        git = facts.git or {}
        commit = str(git.get("commit", NOTHING))[:10] + (" and changes" if git.get("dirty") else "")
        command = shlex.join(["powercut", *facts.argv[1:]]) if facts.argv else NOTHING
        again = f", resumed {len(facts.resumed)}×" if facts.resumed else ""
        created = f"{facts.created or NOTHING}{again}"
        rows.append(TextRow([str(folder), created, facts.powercut or NOTHING, commit, command]))
    return TextTable(["run", "created", "powercut", "git", "command"], rows, names=5)
