"""What people see of an evaluation: each cell's progress and accuracy, and the table at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from powercut.cli.output import to_stdout
from powercut.cli.progress import Display
from powercut.engines.protocol import Usage
from powercut.errors import visible
from powercut.evals.runs.plan import Cell
from powercut.records import Result
from powercut.report.labels import labels
from powercut.report.stats import proportion

_MOST = 12
"""Cells that are shown at a time."""

NOTHING = "–"


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

    def start(self, done: Mapping[Cell, Iterable[Result]]) -> None:
        """Take note of the cells and of what is done of each already; what failed is to be done again."""
        self._size = {cell: cell.seeds * len(cell.bench.problems) for cell in done}
        self._total = sum(self._size.values())
        self._names = _names(list(done))
        for cell, results in done.items():
            for result in results:
                if result.error is None:
                    self._count(cell, result)

    def observe(self, cell: Cell, result: Result | None) -> None:
        """Take note that a completion begins (None), or ended with this result."""
        if result is None:
            self._running[cell] += 1
            return
        self._running[cell] -= 1
        self._count(cell, result)
        self._line(lambda: f"{self._names[cell]}: {self._counts[cell]}/{self._size[cell]}, {self._share(cell)} right")

    def __rich__(self) -> RenderableType:
        """Draw a row for each cell that is at work, the next ones after them."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
        for column in ("cell", "", "done", "running", "right", "failed"):
            table.add_column(column, justify="left" if column in ("cell", "") else "right", no_wrap=True)
        busy = [cell for cell in self._size if self._running[cell]]
        busy += [cell for cell in self._size if not self._running[cell] and self._counts[cell] < self._size[cell]]
        for cell in busy[:_MOST]:
            size, done = self._size[cell], self._counts[cell]
            bar = ProgressBar(total=size, completed=done, width=20)
            figures = (f"{done}/{size}", str(self._running[cell]), self._share(cell), str(self._failed[cell] or ""))
            table.add_row(Text(visible(self._names[cell])), bar, *figures)
        more = [Text(f"and {len(busy) - _MOST} more", style="dim")] if len(busy) > _MOST else []
        return Group(Text(self._head()), *([table] if busy else []), *more)

    def _count(self, cell: Cell, result: Result) -> None:
        self._done += 1
        self._counts[cell] += 1
        self._right[cell] += bool(result.correct)
        self._failed[cell] += result.error is not None

    def _share(self, cell: Cell) -> str:
        return f"{self._right[cell] / self._counts[cell]:.0%}" if self._counts[cell] else NOTHING


def show_summary(results: Mapping[Cell, Sequence[Result]]) -> None:
    """Each cell's accuracy with its 95% interval, and what a completion cost: a table; lines with tabs when piped."""
    models = {cell.model for cell in results}
    names = _names(list(results))
    texts = ["cell", *(["model"] if len(models) > 1 else [])]
    lines = [[*texts, "n", "accuracy", "95% interval", "changed", "tokens", "seconds", "failed"]]
    lines += [[names[cell], *([cell.model] if len(models) > 1 else []), *_figures(results[cell])] for cell in results]
    if not sys.stdout.isatty():
        for line in lines:
            to_stdout("\t".join(line) + "\n")
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for at, column in enumerate(lines[0]):
        table.add_column(column, justify="left" if at < len(texts) else "right", no_wrap=at >= len(texts))
    for line in lines[1:]:
        table.add_row(*(Text(visible(text)) for text in line))
    Console().print(table)


def _names(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Each cell's task, and its sampler as a report labels it."""
    return {cell: f"{cell.bench.name} {label}" for cell, label in zip(cells, labels(cells), strict=True)}


def _figures(results: Sequence[Result]) -> list[str]:
    right: dict[str, list[bool]] = {}
    for result in results:
        right.setdefault(str(result.id), []).append(bool(result.correct))
    accuracy = bounds = NOTHING
    if results:
        share = proportion([float(np.mean(each)) for each in right.values()], len(results))
        accuracy, bounds = f"{share.value:.1%}", f"{share.low:.1%} – {share.high:.1%}"
    whole = [result for result in results if result.error is None]
    means = [_mean(whole, "changed", ".0%"), _mean(whole, "tokens_decoded", ",.0f"), _mean(whole, "seconds", ",.1f")]
    return [str(len(results)), accuracy, bounds, *means, str(len(results) - len(whole))]


def _mean(results: Sequence[Result], measure: str, form: str) -> str:
    known = [value for result in results if (value := getattr(result, measure)) is not None]
    return format(float(np.mean(known)), form) if known else NOTHING
