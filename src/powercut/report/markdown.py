"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from powercut.report.page import Section
from powercut.report.tables import TextRow, TextTable


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


def _table(table: TextTable) -> Iterator[str]:
    """Columns as wide as their texts: the source reads as a table too."""
    lines = [[_escape(text) for text in table.head], *(_fields(row) for row in table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width if at < table.names else "-" * (width - 1) + ":" for at, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        padded = (
            text.ljust(width) if at < table.names else text.rjust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield f"| {' | '.join(padded)} |"


def _fields(row: TextRow) -> list[str]:
    return [f"**{_escape(text)}**" if at in row.bold and text else _escape(text) for at, text in enumerate(row.fields)]


def _escape(text: str) -> str:
    """What Markdown would take for its own; a line stays a line."""
    for mark in "\\`*_|<>":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
