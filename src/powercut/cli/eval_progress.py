"""What people see of an evaluation: each cell's progress and accuracy, and the table at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from powercut.cli.output import to_stdout
from powercut.cli.progress import Display
from powercut.engines.protocol import Usage
from powercut.evals.runs.plan import Cell

_ROWS = 12
_SAME = object()


class EvalProgress(Display):
    """The cells of one model: how many completions are done, and how many of them are right."""

    def __init__(self, console: Console, usage: Usage, every: float = 5.0) -> None:
        super().__init__(console, usage, 0, every)
        self._size: dict[Cell, int] = {}
        self._names: dict[Cell, str] = {}
        self._running: Counter[Cell] = Counter()
        self._counts: Counter[Cell] = Counter()
        self._right: Counter[Cell] = Counter()
        self._failed: Counter[Cell] = Counter()

    def start(self, done: Mapping[Cell, Iterable[Mapping[str, Any]]]) -> None:
        """Take note of the cells and of what is done of each already; what failed is to be done again."""
        self._size = {cell: cell.seeds * len(cell.bench.problems) for cell in done}
        self._total = sum(self._size.values())
        self._names = labels(list(done))
        for cell, rows in done.items():
            for row in rows:
                if row["error"] is None:
                    self._count(cell, row)

    def observe(self, cell: Cell, row: dict[str, Any] | None) -> None:
        """Take note that a completion begins (None), or ended with this result."""
        if row is None:
            self._running[cell] += 1
            return
        self._running[cell] -= 1
        self._count(cell, row)
        self._line(lambda: f"{self._names[cell]}: {self._counts[cell]}/{self._size[cell]}, {self._share(cell)} right")

    def __rich__(self) -> RenderableType:
        """Draw a row for each cell that is at work, the next ones after them."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        for column in ("cell", "", "done", "running", "right", "failed"):
            table.add_column(column, justify="left" if column in ("cell", "") else "right", no_wrap=True)
        busy = [cell for cell in self._size if self._running[cell]]
        busy += [cell for cell in self._size if not self._running[cell] and self._counts[cell] < self._size[cell]]
        for cell in busy[:_ROWS]:
            size, done = self._size[cell], self._counts[cell]
            bar = ProgressBar(total=size, completed=done, width=20)
            figures = (f"{done}/{size}", str(self._running[cell]), self._share(cell), str(self._failed[cell] or ""))
            table.add_row(Text(self._names[cell]), bar, *figures)
        more = [Text(f"and {len(busy) - _ROWS} more", style="dim")] if len(busy) > _ROWS else []
        return Group(Text(self._head()), *([table] if busy else []), *more)

    def _count(self, cell: Cell, row: Mapping[str, Any]) -> None:
        self._done += 1
        self._counts[cell] += 1
        self._right[cell] += bool(row["correct"])
        self._failed[cell] += row["error"] is not None

    def _share(self, cell: Cell) -> str:
        return f"{self._right[cell] / self._counts[cell]:.0%}" if self._counts[cell] else "–"


def labels(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Each cell's task and sampler, with the settings in which it differs from others of both."""
    named = {}
    for cell in cells:
        own = asdict(cell.settings)
        others = [asdict(c.settings) for c in cells if (c.bench.name, c.sampler) == (cell.bench.name, cell.sampler)]
        differ = [name for name in own if any(other.get(name, _SAME) != own[name] for other in others)]
        shown = [f"{name}={_spell(own[name])}" for name in differ]
        shown += [f"cost of {cell.matched.sampler}"] if cell.matched else []
        named[cell] = f"{cell.bench.name} {cell.sampler}" + (f" ({', '.join(shown)})" if shown else "")
    return named


def show_summary(results: Mapping[Cell, Sequence[Mapping[str, Any]]]) -> None:
    """Each cell's accuracy with its 95% interval, and what a completion cost: a table; lines with tabs when piped."""
    models = {cell.model for cell in results}
    names = labels(list(results))
    texts = ["cell", *(["model"] if len(models) > 1 else [])]
    rows = [[*texts, "n", "accuracy", "95% interval", "tokens", "seconds", "failed"]]
    rows += [[names[cell], *([cell.model] if len(models) > 1 else []), *_figures(results[cell])] for cell in results]
    if not sys.stdout.isatty():
        for row in rows:
            to_stdout("\t".join(row) + "\n")
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for at, column in enumerate(rows[0]):
        table.add_column(column, justify="left" if at < len(texts) else "right", no_wrap=at >= len(texts))
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    Console().print(table)


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    from powercut.report.stats import proportion

    right: dict[str, list[bool]] = {}
    for row in rows:
        right.setdefault(row["id"], []).append(bool(row["correct"]))
    accuracy = bounds = "–"
    if rows:
        share = proportion([float(np.mean(each)) for each in right.values()], len(rows))
        accuracy, bounds = f"{share.value:.1%}", f"{share.low:.1%} – {share.high:.1%}"
    whole = [row for row in rows if row["error"] is None]
    tokens, seconds = (
        f"{np.mean([row[name] for row in whole]):,.{digits}f}" if whole else "–"
        for name, digits in (("tokens_decoded", 0), ("seconds", 1))
    )
    return [str(len(rows)), accuracy, bounds, tokens, seconds, str(len(rows) - len(whole))]


def _spell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
