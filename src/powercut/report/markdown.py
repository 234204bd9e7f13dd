"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from powercut.report.sections import Section
from powercut.report.tables import Row, Table


def markdown(sections: Sequence[Section], title: str, notes: Sequence[str]) -> str:
    """Tables under headings, the notes first."""
    return "\n".join(_lines(sections, title, notes))


def _lines(sections: Sequence[Section], title: str, notes: Sequence[str]) -> Iterator[str]:
    yield f"# {_escape(title)}\n"
    if notes:
        yield from (f"- {_escape(note)}" for note in notes)
        yield ""
    for section in sections:
        yield f"## {_escape(section.title)}\n"
        for part in section.parts:
            yield f"{_escape(part.caption)}\n"
            yield from _table(part.table)
            yield ""


def _table(table: Table) -> Iterator[str]:
    """Columns as wide as their cells: the source reads as a table too."""
    lines = [[_escape(cell) for cell in table.head], *(_cells(row) for row in table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if at < table.texts else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        padded = (
            cell.ljust(width) if at < table.texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield f"| {' | '.join(padded)} |"


def _cells(row: Row) -> list[str]:
    return [f"**{_escape(cell)}**" if at in row.bold and cell else _escape(cell) for at, cell in enumerate(row.cells)]


def _escape(text: str) -> str:
    """What Markdown would take for its own; a line stays a line."""
    for mark in "\\`*_|<>":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
