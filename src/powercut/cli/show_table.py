"""Tables of figures on stdout."""

from __future__ import annotations

import sys
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from powercut.cli.output import to_stdout

if TYPE_CHECKING:
    from powercut.report.tables import TextTable


def show_table(figures: TextTable) -> None:
    """On a terminal the columns that there is room for; elsewhere all, as lines with tabs."""
    if not sys.stdout.isatty():
        for fields in (figures.head, *(row.fields for row in figures.rows)):
            to_stdout("\t".join(fields) + "\n")
        return
    console = Console()
    widths = _widths(figures, console.width)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in figures.head[: figures.names]:
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis")
    for name, width in zip(figures.head[figures.names :], widths, strict=False):
        table.add_column(Text(name), justify="right", width=width)
    shown = figures.names + len(widths)
    for row in figures.rows:
        table.add_row(*(Text(row.fields[at], style="bold" if at in row.bold else "") for at in range(shown)))
    console.print(table)


def _widths(figures: TextTable, room: int) -> list[int]:
    """The widths of the figures' columns that there is room for; short of it their headings take two lines."""
    columns = list(zip(figures.head, *(row.fields for row in figures.rows), strict=True))
    names, rest = columns[: figures.names], columns[figures.names :]
    room -= sum(max(map(len, column)) + 2 for column in names)
    full = [max(map(len, column)) for column in rest]
    if sum(full) + 2 * len(full) <= room:
        return full
    least = [max(map(len, (*head.split(), *fields))) for head, *fields in rest]
    ends = list(accumulate(width + 2 for width in least))
    return least[: max(1, sum(end <= room for end in ends))]  # accuracy at least
