"""The report as CSV: a line a cell, every figure at full precision."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from powercut.records import MEASURES
from powercut.report.labels import comparable
from powercut.report.stats import Interval
from powercut.report.summary import Entry, Summary, Test


def results(summary: Summary) -> str:
    """Figures of each cell, its settings (``setting:alpha``), pass@k, and tests (``standard:p``) of its own model."""
    tests = {(id(t.entry), t.baseline.facts.sampler): t for t in summary.tests if t.baseline.model == t.entry.model}
    lines = [_line(entry, tests) for group in summary.tasks.values() for entry in group]
    head = dict.fromkeys(name for line in lines for name in line)
    columns = sorted(head, key=_place)
    return write_lines(lines, columns)


def write_lines(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Lines as CSV under a head; what a line lacks is empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _line(entry: Entry, tests: dict[tuple[int, str], Test]) -> dict[str, Any]:
    facts = entry.facts
    line: dict[str, Any] = {"task": facts.task, "model": facts.model, "sampler": facts.sampler, "label": entry.label}
    line |= {
        "cell": entry.cell.name,
        "problems": entry.problems,
        "completions": entry.completions,
        "errors": entry.errors,
    }
    line |= _interval("accuracy", entry.accuracy)
    line |= {name: None if math.isnan(entry.means[name]) else entry.means[name] for name in MEASURES}
    line |= {f"pass@{k}": share.value for k, share in enumerate(entry.pass_at, 1)}
    for (owner, baseline), test in tests.items():
        if owner == id(entry):
            line |= _interval(f"{baseline}:difference", test.result.difference)
            line |= {f"{baseline}:p": test.result.p, f"{baseline}:p_holm": test.adjusted}
    return line | {f"setting:{name}": _plain(value) for name, value in facts.settings.items()}


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else comparable(value)


def _place(column: str) -> int:
    """Columns that only some cells have, behind those of all: pass@k in order, tests, settings."""
    if column.startswith("pass@"):
        return int(column[5:])
    return 1_000_000 + column.startswith("setting:") if ":" in column else 0
